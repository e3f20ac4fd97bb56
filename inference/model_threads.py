"""The threads that run the models, batch after batch, and never end because of what a model does.

Each computes batches of its own, alone. Threads that share one computation wait for each other at every layer, by
spinning; where planners want the same cores, that was seen to take a batch from 3 to 360 ms.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.batcher import Batch, Item
from inference.execution import Executed, Executor, Outcome, failure
from inference.metrics import Metrics
from inference.shelf import Shelf
from inference.work import Work

log = logging.getLogger("headrace.infer")

_BEAT_S = 0.5


@dataclass
class _Pulse:
    """When a thread was last seen to move, and since when it is in a batch; on the clock of time.monotonic()."""

    beat: float = field(default_factory=time.monotonic)
    busy_since: float | None = None


class ModelThreads:
    """`take` hands out what is to be sent; `wake_fd` can be read when there is something."""

    def __init__(self, work: Work, shelf: Shelf, executor: Executor, metrics: Metrics, count: int = 1) -> None:
        self._work, self._shelf, self._executor, self._metrics = work, shelf, executor, metrics
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._outbox: deque[tuple[bytes, Outcome]] = deque()
        self._pulses = [_Pulse() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(pulse,), name=f"model {number}", daemon=True)
            for number, pulse in enumerate(self._pulses)
        ]

    def start(self) -> None:
        """From now on batches are run."""
        for thread, pulse in zip(self._threads, self._pulses, strict=True):
            pulse.beat = time.monotonic()
            thread.start()

    def close(self, limit_s: float) -> bool:
        """End after the batches that run; False if that takes longer than the limit."""
        self._work.close()
        ends = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(ends - time.monotonic(), 0.0))
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended:
            os.close(self.wake_fd)
        return ended

    def take(self) -> list[tuple[bytes, Outcome]]:
        """For whom, and what."""
        os.eventfd_read(self.wake_fd)
        taken = []
        while self._outbox:
            taken.append(self._outbox.popleft())
        return taken

    def problem(self, now: float, stuck_s: float) -> str | None:
        """Why these threads cannot be relied on; None while all of them work."""
        for thread, pulse in zip(self._threads, self._pulses, strict=True):
            busy_since = pulse.busy_since
            if not thread.is_alive():
                return "the model thread has ended"
            if busy_since is not None and now - busy_since > stuck_s:
                return f"the model thread has been in one batch for {now - busy_since:.0f} s"
            if busy_since is None and now - pulse.beat > stuck_s:
                return f"the model thread has not moved for {now - pulse.beat:.0f} s"
        return None

    def _run(self, pulse: _Pulse) -> None:
        while not self._work.closed:
            pulse.beat = time.monotonic()
            try:
                self._step(pulse)
            except Exception:
                log.exception("the model thread goes on after a mistake of ours")

    def _step(self, pulse: _Pulse) -> None:
        batch = self._work.next(_BEAT_S)
        if batch is None:
            return
        began = pulse.busy_since = time.monotonic()
        done: Executed | None = None
        try:
            done = self._executor.run(batch, self._shelf.models)
        finally:
            self._finish(batch, done, time.monotonic() - began)
            pulse.busy_since = None

    def _finish(self, batch: Batch, done: Executed | None, seconds: float) -> None:
        """Also when the executor itself failed: nobody may wait for an answer that never comes."""
        wanted = self._work.finish(batch, seconds)
        outcomes: Sequence[Outcome]
        if done is None:
            why = "a mistake of the server; see its log"
            outcomes = [failure(item.query, "model_failed", why) for item in batch.items]
        else:
            outcomes = done.outcomes
            self._metrics.retried.inc(done.retried)
        self._send([(i.peer, o) for i, o, w in zip(batch.items, outcomes, wanted, strict=True) if w])
        self._count(batch, seconds, wanted)

    def _send(self, messages: list[tuple[bytes, Outcome]]) -> None:
        self._outbox.extend(messages)
        os.eventfd_write(self.wake_fd, 1)

    def _count(self, batch: Batch, seconds: float, wanted: list[bool]) -> None:
        metrics, began = self._metrics, time.monotonic() - seconds
        metrics.batches.labels(batch.fired.value).inc()
        metrics.batch_items.observe(len(batch.items))
        metrics.model_seconds.observe(seconds)
        metrics.unwanted.inc(wanted.count(False))
        for item in batch.items:
            metrics.queue_seconds.observe(began - item.arrived)


def expired(item: Item) -> Outcome:
    """For one whose time is over."""
    return failure(item.query, "expired", f"no answer within {item.query.deadline_s:.3g} s")
