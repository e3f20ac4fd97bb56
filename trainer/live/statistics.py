"""Mean, deviation and range of what a policy sees and does, brought up to date as episodes come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.shard_view import ShardView
from trainer.live.catalogue import Episodes

Float = NDArray[np.float64]

# A joint that never moved would be divided by nothing (ACT clips here too).
MIN_STD = 1e-2
# Steps that are read at once.
_MAX_STEPS = 1 << 15


@dataclass(frozen=True)
class Statistics:
    """Of each dimension, float64[D] all of them. std is at least 1e-2; values that are not finite do not count."""

    count: Float
    mean: Float
    std: Float
    min: Float
    max: Float


class RunningStatistics:
    """Sums that are merged as in Chan, Golub and LeVeque (1979): no second pass, no loss of digits."""

    def __init__(self, dimensions: int) -> None:
        self._count: Float = np.zeros(dimensions)
        self._mean: Float = np.zeros(dimensions)
        self._squares: Float = np.zeros(dimensions)
        self._min: Float = np.full(dimensions, np.inf)
        self._max: Float = np.full(dimensions, -np.inf)

    def add(self, values: Float) -> None:
        """More rows, float64[n, D]."""
        finite = np.isfinite(values)
        count: Float = finite.sum(axis=0).astype(np.float64)
        known = np.where(finite, values, 0)
        mean = known.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(finite, values - mean, 0) ** 2).sum(axis=0)
        total = np.maximum(self._count + count, 1)
        shift = mean - self._mean
        self._mean = self._mean + shift * count / total
        self._squares = self._squares + squares + shift**2 * self._count * count / total
        self._count = self._count + count
        self._min = np.minimum(self._min, np.where(finite, values, np.inf).min(axis=0, initial=np.inf))
        self._max = np.maximum(self._max, np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf))

    def result(self) -> Statistics:
        """As of now."""
        std = np.sqrt(self._squares / np.maximum(self._count, 1))
        return Statistics(
            self._count.copy(), self._mean.copy(), np.maximum(std, MIN_STD), self._min.copy(), self._max.copy()
        )


def column_blocks(shards: Sequence[ShardView], episodes: Episodes, columns: Sequence[str]) -> Iterator[Float]:
    """The rows of all steps of these episodes, columns flattened and joined: float64[n, D], some thousands at once."""
    for shard, first, count in _runs(episodes):
        for begin in range(first, first + count, _MAX_STEPS):
            rows = min(_MAX_STEPS, first + count - begin)
            parts = [shards[shard].steps(f"steps/{name}", begin, rows).reshape(rows, -1) for name in columns]
            yield np.concatenate([part.astype(np.float64) for part in parts], axis=1) if parts else np.empty((rows, 0))


def _runs(episodes: Episodes) -> Iterator[tuple[int, int, int]]:
    """(shard, first step, steps) of episodes that lie side by side, so that a thousand cost a few reads."""
    episodes = episodes[np.lexsort((episodes["first_step"], episodes["shard"]))]
    ends = episodes["first_step"] + episodes["steps"]
    new = np.ones(len(episodes), np.bool_)
    new[1:] = (episodes["shard"][1:] != episodes["shard"][:-1]) | (episodes["first_step"][1:] != ends[:-1])
    starts = np.flatnonzero(new)
    for begin, end in zip(starts, [*starts[1:], len(episodes)], strict=True):
        first = int(episodes["first_step"][begin])
        yield int(episodes["shard"][begin]), first, int(ends[end - 1]) - first
