"""From predicted chunks of actions to the one action that is done now."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

# ACT's: the weight of a prediction is exp(-0.01 · i), i = 0 the oldest.
ENSEMBLE_RATE = 0.01


class TemporalEnsemble:
    """Every step asks for a chunk, and does the weighted mean of all that was ever predicted for this step."""

    def __init__(self, chunk: int, rate: float = ENSEMBLE_RATE) -> None:
        self._rate = rate
        self._chunks: deque[NDArray[np.float32]] = deque(maxlen=chunk)

    wants_chunk = True

    def add(self, chunk: NDArray[np.float32]) -> None:
        """What is predicted for this step and those after it, float32[K, A]."""
        self._chunks.append(chunk)

    def action(self) -> NDArray[np.float32]:
        """float32[A]; then the next step begins."""
        ages = range(len(self._chunks) - 1, -1, -1)
        seen = np.stack([chunk[age] for chunk, age in zip(self._chunks, ages, strict=True)])  # [n, A], oldest first
        weights = np.exp(-self._rate * np.arange(len(seen)))  # [n]
        return np.asarray(weights @ seen / weights.sum(), np.float32)


class OpenLoop:
    """Does the first `execute` actions of a chunk, then asks for the next."""

    def __init__(self, execute: int) -> None:
        self._execute = execute
        self._left: list[NDArray[np.float32]] = []

    @property
    def wants_chunk(self) -> bool:
        """All of the last one is done."""
        return not self._left

    def add(self, chunk: NDArray[np.float32]) -> None:
        """float32[K, A]."""
        self._left = list(chunk[: self._execute])

    def action(self) -> NDArray[np.float32]:
        """float32[A]; then the next step begins."""
        return self._left.pop(0)


Chunks = TemporalEnsemble | OpenLoop
