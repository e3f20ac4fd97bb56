"""The random numbers of one scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draws:
    """Everything comes from `Generator.random`, so that a scene does not change with numpy's other samplers."""

    def __init__(self, *key: int) -> None:
        self._random = np.random.default_rng(np.random.SeedSequence(key)).random

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self._random() < probability)

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return float(low + (high - low) * self._random())

    def integer(self, low: int, high: int) -> int:
        """An int in low … high, both included."""
        return low + int(self._random() * (high - low + 1))

    def weighted(self, weights: Sequence[float]) -> int:
        """A place in `weights`, which add up to 1, each as probable as its weight."""
        left = self._random()
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return len(weights) - 1

    def one(self, items: Sequence[Item]) -> Item:
        """One of them, which must not be empty."""
        return items[self.integer(0, len(items) - 1)]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """All of them in random order."""
        left = list(items)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in items]
