"""`headrace bench plan`: pushes and searches in generated scenes.

Pushes and searches are measured by programs of producers/, each in a process of its own, one after the other, in CPU
time of that process: a share of a busy machine's wall time says little.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from rich.console import Console

from deploy.bench.figures import Figure, table, write_json
from deploy.processes import ProgramError
from protocol.errors import ConfigurationError

# A table that goes to a file needs no terminal's width.
_FILE_WIDTH = 120
EASY_AT_LEAST, MEDIUM_AT_LEAST, MEDIUM_AT_MOST, TREE_AT_MOST = 0.95, 0.85, 0.92, 0.5
PUSH_MS = {"planar": 10.0, "free": 50.0}


@dataclass(frozen=True)
class PlanBenchFlags:
    """Measure NAMO pushes and planners on generated scenes."""

    scenes: int = 100
    """Scenes of each difficulty."""
    seed: int = 0
    """Of the scenes and the searches."""
    max_pushes: int = 2000
    """Budget of one search [motion primitives]."""
    pushes: int = 60
    """Pushes of one measurement, for each kind of physics."""
    rounds: int = 3
    """Measurements of the pushes; the figure is their median."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(PlanBenchFlags, prog="headrace bench plan", args=argv)
    for name in ("scenes", "max_pushes", "pushes", "rounds"):
        if getattr(flags, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{flag} {getattr(flags, name)}: expected at least 1")
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        root = Path(temporary)
        progress.print(f"pushes, {flags.rounds} rounds …", highlight=False)
        walk = ("--pushes", str(flags.pushes))
        pushes = [_run("producers.namo.push_bench", root, *walk) for _ in range(flags.rounds)]
        progress.print(f"searches in {flags.scenes} scenes of each difficulty …", highlight=False)
        words = ("--scenes", flags.scenes, "--seed", flags.seed, "--max-pushes", flags.max_pushes)
        searches = _run("producers.namo.plan_bench", root, *map(str, words))
    figures = [*push_figures(pushes), *search_figures(searches)]
    console.print(table("headrace bench plan", figures))
    details = searches["details"]
    console.print(
        f"a medium search takes {details['medium_median_s']:.2f} s (median; mean {details['medium_mean_s']:.2f} s) of "
        f"one core; the original's took {details['original_median_s']} s (mean {details['original_mean_s']} s) on its "
        "own scenes and machine",
        highlight=False,
        soft_wrap=True,
    )
    if flags.json:
        write_json(flags.json, figures, {"pushes": pushes, **details})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def push_figures(rounds: Sequence[dict[str, float]]) -> list[Figure]:
    """CPU milliseconds of one motion primitive with ten movables, with everything that it needs."""
    figures = []
    for physics, bar in PUSH_MS.items():
        runs = [measured[f"push_ms_{physics}"] for measured in rounds]
        figures.append(Figure(f"plan.push_ms_{physics}", median(runs), "ms", bar, "at_most", runs))
    return figures


def search_figures(searches: dict[str, Any]) -> list[Figure]:
    """Solved shares, searches an hour, and expansions. Raises ProgramError if one was not measured."""
    values = {figure["name"]: figure["value"] for figure in searches["figures"]}

    def measured(name: str) -> float:
        if values.get(name) is None:
            raise ProgramError(f"{name} could not be measured: no search ended by itself; try more --scenes")
        return float(values[name])

    return [
        Figure("plan.easy_solved", measured("plan.easy_solved"), "", EASY_AT_LEAST),
        Figure("plan.medium_solved", measured("plan.medium_solved"), "", MEDIUM_AT_LEAST, most=MEDIUM_AT_MOST),
        Figure("plan.searches_per_hour", measured("plan.searches_per_hour"), "/h"),
        Figure("plan.tree_vs_idfs", measured("plan.tree_vs_idfs"), "", TREE_AT_MOST, "at_most"),
    ]


def _run(module: str, root: Path, *words: str) -> dict[str, Any]:
    """Run a program that writes its figures to --json. Raises ProgramError with its last words."""
    out = root / "figures.json"
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", module, *words, "--json", str(out)], capture_output=True, text=True, check=False
    )
    if not out.exists():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ProgramError(f"{module} failed: {last[0]}")
    made: dict[str, Any] = json.loads(out.read_text())
    return made


if __name__ == "__main__":
    sys.exit(main())
