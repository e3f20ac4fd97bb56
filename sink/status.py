"""What the sink is doing, for people: totals by stream, producers, problems; served as JSON by /status."""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.lease_book import LeaseBook
from protocol.messages import Outcome, Producer
from protocol.sessions import Session
from protocol.sink_delivery import SinkDelivery

_RATE_WINDOW_S = 60.0
_BYTES_WINDOW_S = 10.0
# Of the time of the sink's thread, for snapshots: one of 10 000 producers takes some 15 ms.
_SNAPSHOT_SHARE = 0.02
# Names of producers with how often they were started again.
_MOST_REMEMBERED = 4096
_NO_GOAL: dict[str, int | None] = {"goal_successes": None, "goal_episodes": None}


@dataclass
class StreamTotals:
    """Counted since this sink started, but for the two that the dataset gave."""

    episodes: int = 0  # committed indices, all lives of the sink
    successes: int = 0  # of those
    frames: int = 0
    steps: int = 0
    payload_bytes: int = 0
    new: dict[str, int] = field(default_factory=lambda: {outcome.name.lower(): 0 for outcome in Outcome})
    waits: str = ""
    shortage: str = ""  # why it will have to wait when its shard is full
    first_heard: float = field(default_factory=time.monotonic)
    commits: deque[float] = field(default_factory=deque)  # times of the last minute
    samples: deque[tuple[float, int]] = field(default_factory=deque)  # (time, payload_bytes) of the last while


class _Restarts:
    """How often a producer came back as another process; of those that were not seen for longest it is forgotten."""

    def __init__(self) -> None:
        # host, name → (its latest processes, how many there were)
        self._seen: OrderedDict[tuple[str, str], tuple[tuple[int, ...], int]] = OrderedDict()

    def note(self, producer: Producer) -> int:
        """It is there; returns how often it was started again."""
        key = (producer.host, producer.name)
        # Several: names need not be unique, and those who share one are no restarts of each other again and again.
        pids, count = self._seen.pop(key, ((), 0))
        if producer.pid not in pids:
            pids, count = (*pids, producer.pid)[-8:], count + 1
        self._seen[key] = pids, count
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return count - 1


def _goals(sessions: Iterable[Session]) -> dict[str, dict[str, int | None]]:
    """Of each stream: the successes that its producers work for, or how many indices they work through."""
    successes: dict[str, int] = {}
    ranges: dict[str, tuple[int, int]] = {}
    for session in sessions:
        goal, stream = session.goal, session.stream
        if goal.successes is not None:
            successes[stream] = max(successes.get(stream, 0), goal.successes)
        elif goal.end is not None:
            first, end = ranges.get(stream, (goal.start, goal.end))
            ranges[stream] = min(first, goal.start), max(end, goal.end)
    found = {name: {"goal_successes": None, "goal_episodes": end - first} for name, (first, end) in ranges.items()}
    return {**found, **{name: {**_NO_GOAL, "goal_successes": count} for name, count in successes.items()}}


class StatusBoard:
    """Gathers totals and turns them into a snapshot."""

    def __init__(self, root: Path, epoch: int) -> None:
        self.streams: dict[str, StreamTotals] = {}
        self._root, self._epoch = root, epoch
        self._started = time.monotonic()
        self.draining = False
        self._next = 0.0
        self._restarts = _Restarts()
        self.latest: dict[str, Any] = {"ready": False, "problems": ["the sink starts"]}
        self.latest |= {"warnings": [], "streams": {}, "producers": []}

    def stream(self, name: str) -> StreamTotals:
        """The totals of a stream."""
        totals = self.streams.get(name)
        if totals is None:
            totals = self.streams[name] = StreamTotals()
        return totals

    def note_commit(self, name: str, outcome: Outcome, steps: int) -> None:
        """One more index is committed."""
        totals = self.stream(name)
        totals.episodes += 1
        totals.successes += outcome is Outcome.SUCCESS
        totals.steps += steps
        totals.new[outcome.name.lower()] += 1
        if outcome is not Outcome.VOID:
            totals.commits.append(time.monotonic())
        while totals.commits and totals.commits[0] < time.monotonic() - _RATE_WINDOW_S:
            totals.commits.popleft()

    def line(self) -> str:
        """The latest snapshot in a few words."""
        streams = self.latest["streams"].values()
        episodes = sum(stream["episodes"] for stream in streams)
        rate = sum(stream["mb_per_s"] for stream in streams)
        words = f"{episodes} episodes, {rate:.1f} MB/s, {len(self.latest['producers'])} producers"
        return "; ".join((words, *self.latest["problems"]))

    def health(self) -> tuple[list[str], list[str]]:
        """Problems and warnings of the latest snapshot, a sentence each."""
        latest = self.latest
        return latest["problems"], latest["warnings"]

    def refresh(self, now: float, delivery: SinkDelivery) -> None:
        """Make a new snapshot, unless that would take too much time; called by the sink's own thread."""
        stale = self.latest["ready"] == self.draining
        if now < self._next and not stale:
            return
        began = time.thread_time()
        self._make(now, delivery)
        self._next = now + (time.thread_time() - began) / _SNAPSHOT_SHARE

    def _make(self, now: float, delivery: SinkDelivery) -> None:
        problems = [f"stream {name}: {totals.waits}" for name, totals in self.streams.items() if totals.waits]
        if self.draining:
            problems.append("draining: the sink is about to stop")
        goals = _goals(delivery.sessions.values())
        self.latest = {
            "ready": not self.draining,
            "epoch": self._epoch,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "problems": problems,
            "warnings": [
                f"stream {name} will have to wait when its shard is full: {totals.shortage}"
                for name, totals in self.streams.items()
                if totals.shortage and not totals.waits
            ],
            "disk_free_bytes": shutil.disk_usage(self._root).free,
            "in_flight_bytes": delivery.credit.in_flight_bytes,
            "credit_bytes": delivery.credit.total_bytes,
            "streams": {
                name: {**self._stream(totals, delivery.books.get(name)), **goals.get(name, _NO_GOAL)}
                for name, totals in self.streams.items()
            },
            "producers": [
                {
                    "name": session.producer.name,
                    "host": session.producer.host,
                    "pid": session.producer.pid,
                    "stream": session.stream,
                    "state": session.state,
                    "episodes_under_way": sorted(session.episodes),
                    "silent_s": round(now - session.last_heard, 1),
                    "done": session.told_done,
                    "credit_bytes": delivery.credit.unspent(session.number),
                    "window_bytes": session.window,
                    "restarts": self._restarts.note(session.producer),
                }
                for session in delivery.sessions.values()
            ],
        }

    def _stream(self, totals: StreamTotals, book: LeaseBook | None) -> dict[str, Any]:
        now = time.monotonic()
        window = max(min(_RATE_WINDOW_S, now - totals.first_heard), 1.0)
        rate = len(totals.commits) / window * 3600
        totals.samples.append((now, totals.payload_bytes))
        while now - totals.samples[0][0] > _BYTES_WINDOW_S:
            totals.samples.popleft()
        since, before = totals.samples[0]
        byte_rate = (totals.payload_bytes - before) / max(now - since, 1.0) / 1e6
        return {
            "episodes": totals.episodes,
            "successes": totals.successes,
            "leases": len(book.leases) if book else 0,
            "frames": totals.frames,
            "steps": totals.steps,
            "payload_bytes": totals.payload_bytes,
            "since_start": dict(totals.new),
            "episodes_per_hour": round(rate, 1),
            "mb_per_s": round(byte_rate, 2),
            "waits": totals.waits,
        }
