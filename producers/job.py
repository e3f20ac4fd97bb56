"""What a supervisor tells a worker process, and what a worker reports back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocol.messages import Goal


@dataclass(frozen=True)
class Job:
    """endpoint: the sink. name: of this worker. options: the simulator's own, picklable. nice: added to niceness."""

    endpoint: str
    name: str
    goal: Goal
    options: Any
    nice: int = 5


@dataclass
class WorkerStats:
    """Totals of one worker process, in seconds where it says _s; start_s (imports, model) is in none of the others.

    rss_mb: resident memory after each episode. wait_s: blocked on the sink, for leases, room or commits; the wait for
    others to finish at the end is final_wait_s.
    """

    episodes: int = 0
    successes: int = 0
    steps: int = 0
    frames: int = 0
    frame_bytes: int = 0
    raw_bytes: int = 0
    start_s: float = 0.0
    simulate_s: float = 0.0
    render_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0
    final_wait_s: float = 0.0
    total_s: float = 0.0
    cpu_s: float = 0.0
    rss_mb: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """From a worker.

    kind: `state` (what it does now), `stats` (after each episode), `log` (a warning), `said` (news),
    `error` (it cannot go on).
    """

    kind: str
    text: str = ""
    stats: WorkerStats | None = None
