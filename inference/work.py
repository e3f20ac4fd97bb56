"""The batcher between threads: one that talks to clients, and those that run the models."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from inference.batcher import Batch, Batcher, BatchLimits, Item
from protocol.namo.queries import Failed, Query


@dataclass(frozen=True)
class Depth:
    """What waits now."""

    items: int
    bytes: int


class Work:
    """Every method may be called by any thread."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self._batcher = Batcher(limits)
        self._changed = threading.Condition()
        self._asleep = 0
        self._closed = False

    def add(self, peer: bytes, query: Query, size: int) -> Failed | None:
        """See `Batcher.add`."""
        with self._changed:
            refused = self._batcher.add(time.monotonic(), peer, query, size)
            self._wake()
        return refused

    def cancel(self, peer: bytes, number: int) -> bool:
        """See `Batcher.cancel`."""
        with self._changed:
            return self._batcher.cancel(time.monotonic(), peer, number)

    def forget(self, peer: bytes) -> int:
        """See `Batcher.forget`."""
        with self._changed:
            return self._batcher.forget(peer)

    def expire(self) -> tuple[list[Item], float | None]:
        """Those whose time is over, and when to look again."""
        with self._changed:
            return self._batcher.expire(time.monotonic()), self._batcher.next_deadline

    def next(self, limit_s: float) -> Batch | None:
        """Wait for a batch, at most so long; see `Batcher.take`."""
        ends = time.monotonic() + limit_s
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                batch = self._batcher.take(now)
                if batch is not None:
                    if self._batcher.waiting_items:  # somebody else has to look at the clock for them
                        self._wake()
                    return batch
                if now >= ends:
                    return None
                wakes_at = self._batcher.wakes_at(now)
                self._asleep += 1
                self._changed.wait(max((ends if wakes_at is None else min(ends, wakes_at)) - now, 0.0))
                self._asleep -= 1
        return None

    def finish(self, batch: Batch, seconds: float) -> list[bool]:
        """See `Batcher.finish`."""
        with self._changed:
            return self._batcher.finish(time.monotonic(), batch, seconds)

    def close(self) -> None:
        """`next` returns nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wake(self) -> None:
        if self._asleep:
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is in the model."""
        with self._changed:
            return self._batcher.empty

    @property
    def depth(self) -> Depth:
        """What waits now."""
        return Depth(self._batcher.waiting_items, self._batcher.waiting_bytes)
