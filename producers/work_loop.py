"""What every worker process does, whatever it simulates: lease an index, produce it, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from producers.episode import Episode
from producers.job import Report, WorkerStats
from producers.publisher import Publisher
from producers.resident_memory import resident_mb
from producers.supervisor import Channel, StopRequestedError

_FLUSH_LIMIT_S = 10.0


class WorkLoop:
    """Runs until the goal is met, and keeps the supervisor and the sink informed."""

    def __init__(self, publisher: Publisher, channel: Channel, stats: WorkerStats) -> None:
        self._publisher, self._channel, self._stats = publisher, channel, stats
        self._began = time.perf_counter()
        self._start_cpu_s = _cpu_s()

    def run(self, produce: Callable[[Episode], None]) -> None:
        """`produce` records one leased episode. Raises StopRequestedError, and whatever `produce` raises."""
        publisher, stats = self._publisher, self._stats
        self.say("waiting for the sink")
        try:
            for index in publisher.leases(self._channel.check):
                stats.wait_s = publisher.waited_s
                with publisher.episode(index) as episode:
                    produce(episode)
                stats.total_s = time.perf_counter() - self._began
                self._report()
        except StopRequestedError:
            # Give the sink a moment for what is whole already.
            deadline = time.monotonic() + _FLUSH_LIMIT_S
            publisher.flush(lambda: _check_deadline(deadline))
            raise
        finally:
            stats.final_wait_s = publisher.waited_s - stats.wait_s
            self._report()

    def say(self, text: str) -> None:
        """What this worker does now."""
        self._publisher.tell(text)
        self._channel.send(Report("state", text))

    def _report(self) -> None:
        self._stats.rss_mb.append(resident_mb())
        self._stats.cpu_s = _cpu_s() - self._start_cpu_s
        self._channel.send(Report("stats", stats=self._stats))


def _cpu_s() -> float:
    return sum(os.times()[:2])


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise StopRequestedError("the sink did not commit in time; the episode goes back to its pool")
