"""Which samples make the next batch. It reads no data, so it can be remembered, replayed and run ahead."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DatasetError
from trainer.live.catalogue import Catalogue, Episodes, Snapshot
from trainer.live.epoch_order import EpochOrder
from trainer.live.options import Follow, Limit, Order
from trainer.live.ranks import Agreed, Ranks

log = logging.getLogger("headrace.trainer")

# An epoch that takes in new episodes ends some time: it takes none when it has doubled, or after so many times.
_MAX_GROWTH = 2
_MAX_BLOCKS = 4096
# To mix new samples in moves all that are left: not more often than this in the time that those will take. Whether new
# ones are mixed among all that is left or among all but half a percent is the same to training.
_JOINS = 200


@dataclass(frozen=True)
class Block:
    """At `taken` samples of the epoch, on all ranks, it took in the episodes up to `snapshot`."""

    taken: int
    snapshot: Snapshot


@dataclass(frozen=True)
class Mark:
    """Where the sequence of samples stands: enough to go on from there. Samples are counted on all ranks.

    blocks: of the epoch, in order; none if it has not begun. seen: the snapshot that was known.
    """

    epoch: int = 0
    taken: int = 0
    sampled: int = 0
    batches: int = 0
    blocks: tuple[Block, ...] = ()
    seen: Snapshot | None = None


@dataclass(frozen=True)
class Request:
    """The samples of one batch: episodes[B], steps int64[B]. mark: where the sequence stands after it."""

    episodes: Episodes
    steps: NDArray[np.int64]
    mark: Mark


# wait: nothing yet, ask again and be ready to wait; epoch: it is over; stop: there will be no more.
Sign = Literal["wait", "epoch", "stop"]


@dataclass(frozen=True)
class PlanConfig:
    """follow None: never wait."""

    order: Order
    limit: Limit
    follow: Follow | None
    batch_size: int
    drop_last: bool


class Plan:
    """The endless sequence of requests. `mark` is where it stands; `waited_s`, `waiting` [sentence]: for people.

    at_once: samples of one batch on all ranks; least: the fewest that make one.
    """

    def __init__(self, catalogue: Catalogue, config: PlanConfig, ranks: Ranks) -> None:
        """Raises ConfigurationError if the limit could block for ever."""
        self._catalogue, self._config, self._ranks = catalogue, config, ranks
        self.at_once = config.batch_size * ranks.world_size
        self.least = self.at_once if config.drop_last else ranks.world_size
        self._buffer = config.limit.buffer(self.at_once, config.order.mode, config.follow is not None)
        self._queue = EpochOrder(config.order, 0)
        self._counted: tuple[Snapshot, int, int] = ({}, 0, 0)
        self.mark = Mark()
        self.waited_s = 0.0
        self.waiting = ""

    def available(self) -> tuple[int, int]:
        """Episodes and samples of what was last seen."""
        counted, episodes, samples = self._counted
        seen = self.mark.seen or {}
        if seen is not counted:
            change = self._catalogue.between(counted, seen)
            samples += self._samples(change.come) - self._samples(change.gone)
            self._counted = (seen, episodes + len(change.come) - len(change.gone), samples)
        return self._counted[1:]

    def _samples(self, episodes: Episodes) -> int:
        return int(episodes["steps"].sum()) if self._config.order.per == "step" else len(episodes)

    # --- going on -------------------------------------------------------------------------------------------------

    def next(self, may_wait: bool) -> Request | Sign:
        """The next batch; "wait" only if not `may_wait`. Raises DatasetError if there is nothing and none may come."""
        sign = self.begin(may_wait)
        if sign is not None:
            return sign
        count = self._next_count()
        if count >= self.least:
            sign = self._until(lambda: self._held_back(count), may_wait)
            if sign is not None:
                return sign
            self._join()
            # While it waited, some of what was left may have been discarded.
            count = min(count, self._next_count())
        if count < self.least:
            self.mark = replace(self.mark, epoch=self.mark.epoch + 1, taken=0, blocks=())
            return "epoch"
        # In turns, so that however many ranks there are, together they take the same samples.
        episodes, steps = self._queue.take(count)
        mine, old = slice(self._ranks.rank, None, self._ranks.world_size), self.mark
        taken, sampled = old.taken + count, old.sampled + count
        self.mark = replace(old, taken=taken, sampled=sampled, batches=old.batches + 1)
        return Request(episodes[mine], steps[mine], self.mark)

    def begin(self, may_wait: bool) -> Sign | None:
        """Look at the dataset, and begin the epoch if that has not happened yet."""
        order, mark = self._config.order, self.mark
        if order.mode == "frozen":
            if mark.seen is None:
                self.look()
        elif not mark.blocks or mark.batches % order.refresh_every == 0:
            self.look()
        if not mark.blocks:
            sign = self._until(self._lacks_data, may_wait)
            if sign is not None:
                return sign
            seen = self.mark.seen or {}
            self._queue = EpochOrder(order, mark.epoch)
            self._queue.join(self._catalogue.between({}, seen).come)
            self.mark = replace(self.mark, taken=0, blocks=(Block(0, seen),))
        self._join()
        return None

    def restore(self, mark: Mark) -> None:
        """Go on from a mark. Raises DatasetError if this dataset does not have what it had."""
        self._catalogue.refresh()
        if mark.seen is not None:
            self._catalogue.reach(mark.seen)
        queue, taken, joined = EpochOrder(self._config.order, mark.epoch), 0, Snapshot()
        for block in mark.blocks:
            queue.skip(block.taken - taken)
            change = self._catalogue.between(joined, block.snapshot)
            queue.leave(change.gone)
            queue.join(change.come)
            taken, joined = block.taken, block.snapshot
        queue.skip(mark.taken - taken)
        if queue.left < 0:
            raise DatasetError(
                f"the state stands at sample {mark.taken} of an epoch that has {mark.taken + queue.left} here; is it "
                "of another dataset?"
            )
        self._queue, self._counted, self.mark = queue, ({}, 0, 0), mark

    def _next_count(self) -> int:
        left = self._queue.left
        return min(self.at_once, left - left % self._ranks.world_size)

    def _join(self) -> None:
        """Take what is new into this epoch, and what was discarded out of it."""
        last, seen, mode = self.mark.blocks[-1], self.mark.seen or {}, self._config.order.mode
        if mode == "frozen" or seen is last.snapshot:
            return
        full = len(self.mark.blocks) >= _MAX_BLOCKS
        if mode == "growing":
            full |= self._queue.joined >= _MAX_GROWTH * self._queue.begun_with
            full |= (self.mark.taken - last.taken) * _JOINS < self._queue.left
        if full:  # what is new can wait, what is discarded cannot
            words = self._catalogue.words(seen)
            if words == self._catalogue.words(last.snapshot):
                return
            seen = {**last.snapshot, **words}
        change = self._catalogue.between(last.snapshot, seen)
        if len(change.come) or len(change.gone):
            self._queue.leave(change.gone)
            self._queue.join(change.come)
            blocks = (*self.mark.blocks, Block(self.mark.taken, seen))
        else:
            blocks = (*self.mark.blocks[:-1], Block(last.taken, seen))
        self.mark = replace(self.mark, blocks=blocks)

    def look(self) -> bool:
        """See what is new, as rank 0 sees it; True if it was told to stop."""
        self._catalogue.refresh()
        follow = self._config.follow
        stop = follow is not None and follow.stop is not None and follow.stop()
        agreed = self._ranks.agree(Agreed(self._catalogue.snapshot, stop))
        if agreed.snapshot is not self.mark.seen and agreed.snapshot != self.mark.seen:
            self._catalogue.reach(agreed.snapshot)
            self.mark = replace(self.mark, seen=agreed.snapshot)
        return agreed.stop

    # --- waiting --------------------------------------------------------------------------------------------------

    def _until(self, lacking: Callable[[], str], may_wait: bool) -> Sign | None:
        """None once nothing is lacking, "stop" if told to; "wait" if that takes time and may not."""
        why, follow = lacking(), self._config.follow
        if not why:
            return None
        if follow is None:
            raise DatasetError(why)
        if not may_wait:
            return "wait"
        began = notice_at = time.monotonic()
        while True:
            stop = self.look()
            self.waiting, now = lacking(), time.monotonic()
            if not self.waiting or stop:
                self.waited_s += now - began
                return "stop" if self.waiting else None
            if now - began > follow.timeout_s:
                raise DatasetError(f"{self.waiting}; waited {follow.timeout_s:g} s")
            if now >= notice_at:
                log.warning("waiting for data: %s", self.waiting)
                notice_at = now + follow.notice_s
            time.sleep(follow.poll_s)

    def _lacks_data(self) -> str:
        episodes, samples = self.available()
        limit = self._config.limit
        if not episodes:
            return self._catalogue.explain()
        if episodes < limit.min_episodes or samples < limit.min_samples:
            wanted = f"min_episodes={limit.min_episodes}, min_samples={limit.min_samples}"
            return f"{episodes} episodes with {samples} samples are chosen so far; expected {wanted}"
        if samples < self.least:
            return f"{samples} samples are fewer than the {self.least} of one batch on all ranks"
        return ""

    def _held_back(self, count: int) -> str:
        limit = self._config.limit
        if math.isinf(limit.samples_per_insert):
            return ""
        _, inserted = self.available()
        allowed = limit.samples_per_insert * (inserted - limit.min_samples) + self._buffer
        if self.mark.sampled + count <= allowed:
            return ""
        return (
            f"{self.mark.sampled} samples were taken of the {allowed:.0f} that samples_per_insert="
            f"{limit.samples_per_insert:g} allows for {inserted}; more episodes have to come"
        )
