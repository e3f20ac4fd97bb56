"""One measured collection: sink, workers and a reader, as a user would run them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.follow import Follower
from deploy.processes import Program, ProgramError, start, start_sink

_POLL_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """What a run took. wall_s: of the slowest worker, from its first lease on. cpu_s: of all workers and the sink.

    simulate_s … wait_s: sums over the workers; worker_s: the sum of their wall time.
    """

    episodes: int
    steps: int
    wall_s: float
    cpu_s: float
    simulate_s: float = 0.0
    render_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0
    worker_s: float = 0.0
    raw_bytes: int = 0
    frame_bytes: int = 0
    sink_rss_mb: float = 0.0
    worker_rss_mb: list[list[float]] = field(default_factory=list)
    visible_ms: list[float] = field(default_factory=list)

    @property
    def episodes_per_hour(self) -> float:
        """By the clock."""
        return 3600 * self.episodes / self.wall_s

    @property
    def episodes_per_core_hour(self) -> float:
        """By CPU time."""
        return 3600 * self.episodes / self.cpu_s


def gl_environment() -> dict[str, str]:
    """The environment of a process that renders on this machine."""
    graphics = importlib.import_module("producers.robosuite.graphics")
    return {**os.environ, **graphics.environment_variables(graphics.choose_backend())}


def run_ours(root: Path, workers: int, flags: dict[str, Any]) -> Run:
    """Collect into `root / data` and measure. Raises ProgramError."""
    data, logs, stats = root / "data", root / "logs", root / "workers.json"
    data.mkdir(parents=True, exist_ok=True)
    sink, endpoint, _ = start_sink(data, logs, ["--shard-mib", "256"])
    try:
        before = _cpu_s(sink.process.pid)
        follower = Follower(data)
        follower.start()
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        words = ["produce", "robosuite", "--sink", endpoint, "--workers", str(workers), *words]
        producers = start("producers", [*words, "--plain", "--json", str(stats)], logs)
        rss = _watch(sink, producers)
        if producers.process.returncode:
            raise ProgramError(producers.last_words())
        seen = follower.stop()
        sink_cpu = _cpu_s(sink.process.pid) - before
    finally:
        sink.stop()
    rows = json.loads(stats.read_text())["workers"]
    total = {name: sum(row[name] for row in rows) for name in rows[0] if isinstance(rows[0][name], int | float)}
    return Run(
        episodes=total["episodes"],
        steps=total["steps"],
        wall_s=max(row["total_s"] for row in rows),
        cpu_s=total["cpu_s"] + sink_cpu,
        simulate_s=total["simulate_s"],
        render_s=total["render_s"],
        encode_s=total["encode_s"],
        wait_s=total["wait_s"],
        worker_s=total["total_s"],
        raw_bytes=total["raw_bytes"],
        frame_bytes=total["frame_bytes"],
        sink_rss_mb=rss,
        worker_rss_mb=[row["rss_mb"] for row in rows],
        visible_ms=seen.visible_ms,
    )


def _watch(sink: Program, producers: Program) -> float:
    """Wait for the producers; returns the most anonymous memory that the sink had [MB]."""
    most = 0.0
    while producers.running:
        if not sink.running:
            raise ProgramError(sink.last_words())
        most = max(most, sink.anonymous_mb())
        with suppress(subprocess.TimeoutExpired):
            producers.process.wait(_POLL_S)
    return most


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
