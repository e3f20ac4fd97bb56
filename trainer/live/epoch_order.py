"""The samples of one epoch that are still to come, in their order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.live.catalogue import NO_EPISODES, Episodes
from trainer.live.mixing import Keys, fractions, key_of, mix
from trainer.live.options import Order

# newest_first: so many of the newest episodes are mixed, for a batch of neighbouring steps would teach little.
_NEWEST_GROUP = 64


class EpochOrder:
    """Each sample has a random key, a function of seed, epoch and what it is; the order is that of the keys.

    So it does not depend on the order in which episodes were found. `joined`: samples in all.
    """

    def __init__(self, order: Order, epoch: int) -> None:
        self._order = order
        self._salt = np.uint64(key_of("order", order.seed, epoch))
        self._episodes = NO_EPISODES
        self._queue: NDArray[np.int64] = np.empty((0, 2), np.int64)  # episode, step
        self._cursor = 0
        self._gone: Keys = np.empty(0, np.uint64)  # keys of the episodes that left
        self.joined = 0
        self.begun_with = 0

    @property
    def left(self) -> int:
        """Samples still to come."""
        return len(self._queue) - self._cursor

    def join(self, episodes: Episodes) -> None:
        """Bring new episodes into what is left. One that left this epoch is not taken again before the next."""
        if len(self._gone):
            episodes = episodes[~np.isin(episodes["key"], self._gone)]
        new, keys = self._samples(episodes)
        left = self._queue[self._cursor :]
        if self._order.mode == "newest_first":
            self._queue = np.concatenate([new[self._newest_first(episodes, new, keys)], left])
        else:
            by_key = np.argsort(keys, kind="stable")
            # Each new one goes to a random gap, and is as likely to come next as any that was there.
            gaps = (fractions(mix(keys)) * (len(left) + 1)).astype(np.int64)
            self._queue = np.insert(left, gaps[by_key], new[by_key], axis=0) if len(left) else new[by_key]
        self._episodes = np.concatenate([self._episodes, episodes])
        self._cursor = 0
        self.begun_with = self.begun_with or len(new)
        self.joined += len(new)

    def leave(self, episodes: Episodes) -> None:
        """Take what is left of these episodes out."""
        if not len(episodes):
            return
        self._gone = np.concatenate([self._gone, episodes["key"]])
        gone, left = np.isin(self._episodes["key"], episodes["key"]), self._queue[self._cursor :]
        self._queue, self._cursor = left[~gone[left[:, 0]]], 0

    def take(self, count: int) -> tuple[Episodes, NDArray[np.int64]]:
        """The next `count` samples, as (episodes[count], steps int64[count])."""
        taken = self._queue[self._cursor : self._cursor + count]
        self._cursor += len(taken)
        return self._episodes[taken[:, 0]], taken[:, 1]

    def skip(self, count: int) -> None:
        """Leave out the next `count`."""
        self._cursor += count

    def _samples(self, episodes: Episodes) -> tuple[NDArray[np.int64], Keys]:
        """Number of the episode and step, int64[n, 2], and key, uint64[n], of all samples of these episodes."""
        keys = mix(episodes["key"] ^ self._salt)
        numbers = np.arange(len(episodes)) + len(self._episodes)
        if self._order.per == "episode":
            steps = (fractions(mix(keys)) * episodes["steps"]).astype(np.int64)
            return np.stack([numbers, steps], axis=1), keys
        counts = episodes["steps"]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        samples = np.stack([np.repeat(numbers, counts), steps], axis=1)
        return samples, mix(np.repeat(keys, counts) + steps.astype(np.uint64))

    def _newest_first(self, episodes: Episodes, new: NDArray[np.int64], keys: Keys) -> NDArray[np.int64]:
        # The key decides between episodes of one commit.
        newest = np.lexsort((episodes["key"], -episodes["committed_ns"].astype(np.int64)))
        group = np.empty(len(episodes), np.int64)
        group[newest] = np.arange(len(episodes)) // _NEWEST_GROUP
        by_group: NDArray[np.int64] = np.lexsort((keys, group[new[:, 0] - len(self._episodes)]))
        return by_group
