"""`headrace bench collect`: how fast episodes are collected, against robosuite's own way, in one run.

Cost is CPU time (user + system) of everything that takes part, the sink included, because a share of a busy machine's
wall time says little; episodes per hour and core = 3600 × episodes / CPU seconds. Start-up (imports, compilation,
building the model) is left out on both sides. Ours and theirs take turns, episode by episode.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from deploy.bench.figures import Figure, table, write_json
from deploy.bench.run import Run, gl_environment, run_ours
from deploy.processes import ProgramError
from protocol.errors import ConfigurationError

# A table that goes to a file needs no terminal's width.
_FILE_WIDTH = 120


@dataclass(frozen=True)
class CollectFlags:
    """Measure collection at the ACT spec, against robosuite's own way with the same policy and seeds."""

    episodes: int = 5
    """Episodes of each comparison."""
    env: str = "PickPlaceCan"
    """robosuite task."""
    test_parallel: bool = False
    """Measure several worker counts too."""
    workers: tuple[int, ...] = (1, 2, 4, 8)
    """Worker counts for --test-parallel."""
    test_resolution: bool = False
    """Measure several image sizes too."""
    resolutions: tuple[str, ...] = ("84x84", "256x256", "480x640")
    """Image sizes HEIGHTxWIDTH for --test-resolution [pixels]."""
    baseline: bool = True
    """Run robosuite's own way beside; it takes most of the time."""
    out: Path | None = None
    """Keep the datasets here; a temporary directory by default."""
    json: Path | None = None
    """Write the figures to this file."""


@dataclass(frozen=True)
class Row:
    """One line of the table of runs."""

    what: str
    size: str
    workers: int
    run: Run


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(CollectFlags, prog="headrace bench collect", args=argv)
    sizes = {text: _size(text) for text in flags.resolutions}
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        root = flags.out or Path(temporary)
        bench = CollectBench(flags, root, Console(stderr=True), gl_environment())
        bench.measure_pairs()
        bench.measure_two_workers()
        if flags.test_resolution:
            for text, (height, width) in sizes.items():
                bench.measure(f"size {text}", height, width, 1)
        if flags.test_parallel:
            for count in flags.workers:
                bench.measure(f"{count} workers", 480, 640, count)
    console.print(_run_table(bench.rows))
    figures = bench.figures()
    console.print(table("headrace bench collect", figures))
    if flags.json:
        write_json(flags.json, figures, {"runs": [_details(row) for row in bench.rows]})
    return 0 if all(figure.holds is not False for figure in figures) else 1


class CollectBench:
    """Runs the measurements one after the other and keeps their rows."""

    def __init__(self, flags: CollectFlags, root: Path, console: Console, environment: dict[str, str]) -> None:
        self.rows: list[Row] = []
        self.visible_ms: list[float] = []
        self._flags, self._root, self._console, self._environment = flags, root, console, environment
        self._pairs: list[tuple[Run, Run]] = []

    def measure_pairs(self) -> None:
        """Ours and theirs in turns, one episode each."""
        for index in range(self._flags.episodes):
            self._say(f"episode {index}: headrace")
            ours = self._ours(f"pair-{index}", (480, 640), 1, (index, index + 1))
            if self._flags.baseline:
                self._say(f"episode {index}: robosuite's own way")
                self._pairs.append((ours, self._baseline(index)))
            self._add(f"headrace #{index}", "480x640", 1, ours)
        for index, (_, theirs) in enumerate(self._pairs):
            self._add(f"robosuite #{index}", "480x640", 1, theirs)

    def measure_two_workers(self) -> None:
        """The main job: two workers, one sink, one reader that follows."""
        self._say("two workers")
        run = self._ours("two", (480, 640), 2, (0, max(2 * self._flags.episodes, 4)))
        self.visible_ms = run.visible_ms
        self._add("two workers", "480x640", 2, run)

    def measure(self, what: str, height: int, width: int, workers: int) -> None:
        """One more size or worker count."""
        self._say(what)
        count = max(self._flags.episodes, workers)
        name = what.replace(" ", "-")
        self._add(what, f"{height}x{width}", workers, self._ours(name, (height, width), workers, (0, count)))

    def figures(self) -> list[Figure]:
        """The figures that the project promises."""
        two = next(row.run for row in self.rows if row.what == "two workers")
        figures = []
        if self._pairs:
            ratios = [theirs.cpu_s / ours.cpu_s for ours, theirs in self._pairs]
            total = sum(theirs.cpu_s for _, theirs in self._pairs) / sum(ours.cpu_s for ours, _ in self._pairs)
            figures.append(Figure("collect.speedup_vs_robosuite", total, "×", 4.0, runs=ratios))
        share = two.wait_s / max(two.worker_s, 1e-9)
        p99 = float(np.percentile(self.visible_ms, 99))
        return [
            *figures,
            Figure("collect.wait_share", share, "", 0.02, "at_most"),
            Figure("collect.compression", two.raw_bytes / max(two.frame_bytes, 1), "×", 10.0),
            Figure("collect.visible_p99_ms", p99, "ms", 250.0, "at_most", self.visible_ms),
            Figure("collect.sink_rss_mb", two.sink_rss_mb, "MB", 300.0, "at_most"),
            Figure("collect.episodes_per_hour", two.episodes_per_hour, "/h"),
        ]

    def _ours(self, name: str, size: tuple[int, int], workers: int, indices: tuple[int, int]) -> Run:
        flags: dict[str, Any] = {
            "env": self._flags.env,
            "start-idx": indices[0],
            "end-idx": indices[1],
            "camera-height": size[0],
            "camera-width": size[1],
            "gl": self._environment["MUJOCO_GL"],
        }
        return run_ours(self._root / name, workers, flags)

    def _baseline(self, index: int) -> Run:
        words = ["--env", self._flags.env, "--start-idx", str(index), "--end-idx", str(index + 1)]
        done = subprocess.run(
            [sys.executable, "-m", "producers.robosuite.baseline", "--out", str(self._root / "robosuite"), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProgramError(f"robosuite's own way failed: {done.stderr.strip().splitlines()[-1]}")
        row = json.loads(done.stdout.splitlines()[-1])["episodes"][0]
        return Run(episodes=1, steps=row["steps"], wall_s=row["wall_s"], cpu_s=row["cpu_s"])

    def _add(self, what: str, size: str, workers: int, run: Run) -> None:
        self.rows.append(Row(what, size, workers, run))

    def _say(self, text: str) -> None:
        self._console.print(f"measuring {text} …", highlight=False)


def _run_table(rows: Sequence[Row]) -> Table:
    made = Table(title="runs", caption="robosuite #N: its own way, the same seed. Times in s, summed over workers.")
    for name in ("run", "size", "n", "episodes", "/h", "/h/core", "simulate", "render", "encode", "wait"):
        made.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for row in rows:
        run = row.run
        split = (run.simulate_s, run.render_s, run.encode_s, run.wait_s)
        made.add_row(
            row.what,
            row.size,
            str(row.workers),
            str(run.episodes),
            f"{run.episodes_per_hour:.0f}",
            f"{run.episodes_per_core_hour:.0f}",
            *(f"{seconds:.2f}" if run.worker_s else "" for seconds in split),
        )
    return made


def _details(row: Row) -> dict[str, Any]:
    measured = replace(row.run, visible_ms=[])
    rates = {"per_hour": measured.episodes_per_hour, "per_core_hour": measured.episodes_per_core_hour}
    return {"what": row.what, "size": row.size, "workers": row.workers, **vars(measured), **rates}


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ConfigurationError(f"--resolutions {text!r}: expected HEIGHTxWIDTH in pixels, e.g. 480x640")
    return int(height), int(width)
