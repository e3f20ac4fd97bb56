"""`python -m producers.namo.plan_bench --scenes 100 --json FILE`: the planners on generated scenes, one core.

Solved shares and times are those of idfs + no_heuristic. The budget of a search is a number of motion primitives, so
that all but the times are the same on every machine.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from producers.namo import plan_figures
from producers.namo.options import SearchOptions
from producers.namo.plan_figures import Pair, Row
from producers.namo.scenes import GeneratedScenes
from protocol.errors import ConfigurationError
from protocol.success_rate import wilson_interval

EASY_BAR, MEDIUM_BAND, TREE_BAR = 0.95, (0.85, 0.92), 0.5
# Of the original, on its own medium set and machine: seconds of a search.
ORIGINAL_MEDIAN_S, ORIGINAL_MEAN_S = 1.43, 47.6
_WITHIN = (10, 50, 200, 1000)
_FILE_WIDTH = 120


@dataclass(frozen=True)
class PlanBenchFlags:
    """Search in generated scenes and report shares, times and expansions."""

    scenes: int = 100
    """Scenes of each difficulty."""
    first: int = 0
    """The environments are this one and those after it."""
    template: str = "all"
    """Floor plan: two_rooms, corridor, four_rooms, maze, or all in turn."""
    seed: int = 0
    """Of the scenes and of the searches."""
    max_pushes: int = 2000
    """Budget of one search [motion primitives]."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Write the figures to this file too."""


@dataclass(frozen=True)
class Measured:
    """Rows of idfs on the easy set, pairs on the medium set."""

    easy: list[Row]
    medium: list[Pair]

    @property
    def medium_idfs(self) -> list[Row]:
        """Those of idfs."""
        return [pair.idfs for pair in self.medium]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises ConfigurationError."""
    flags = tyro.cli(PlanBenchFlags, args=argv, prog="producers.namo.plan_bench")
    if flags.scenes < 1 or flags.first < 0:
        found = f"--scenes {flags.scenes} --first {flags.first}"
        raise ConfigurationError(f"expected --scenes of at least 1 and --first of at least 0, found {found}")
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    measured = measure(flags, console)
    console.print(table(measured))
    if flags.json_file is not None:
        document = {"machine": machine(), "figures": figures(measured), "details": details(flags, measured)}
        flags.json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(flags: PlanBenchFlags, console: Console) -> Measured:
    """idfs and its tree take turns on each scene, so that a busy machine is busy for both."""
    idfs = SearchOptions(algorithm="idfs", max_pushes=flags.max_pushes)
    tree = replace(idfs, algorithm="tree_idfs")
    environments = range(flags.first, flags.first + flags.scenes)
    sets = {level: GeneratedScenes(flags.template, level, flags.seed) for level in ("easy", "medium")}

    def run(level: str, environment: int, options: SearchOptions) -> Row:
        return plan_figures.run_one(sets[level], environment, options, flags.seed)

    easy = [run("easy", at, idfs) for at in track(environments, "easy", console=console, transient=True)]
    at_medium = track(environments, "medium", console=console, transient=True)
    return Measured(easy, [Pair(run("medium", at, idfs), run("medium", at, tree)) for at in at_medium])


def figures(measured: Measured) -> list[dict[str, Any]]:
    """Each with its bar, if it has one: {name, value, unit, bar, holds}."""
    easy, medium = plan_figures.solved_share(measured.easy), plan_figures.solved_share(measured.medium_idfs)
    tree = plan_figures.tree_vs_idfs(measured.medium)
    per_hour = plan_figures.solved_per_hour(measured.medium_idfs)
    same = plan_figures.same_plans(measured.medium)
    return [
        _figure("plan.easy_solved", easy, "1", EASY_BAR, easy >= EASY_BAR),
        _figure("plan.medium_solved", medium, "1", MEDIUM_BAND, MEDIUM_BAND[0] <= medium <= MEDIUM_BAND[1]),
        _figure("plan.searches_per_hour", per_hour, "1/h", None, None),
        _figure("plan.tree_vs_idfs", tree, "1", TREE_BAR, tree <= TREE_BAR),
        _figure("plan.same_plans", same, "1", 1.0, same == 1.0),
    ]


def details(flags: PlanBenchFlags, measured: Measured) -> dict[str, Any]:
    """What stands behind the figures."""
    options = {name: value for name, value in asdict(flags).items() if name != "json_file"}
    seconds = [row.cpu_s for row in measured.medium_idfs]
    depths = plan_figures.by_depth(measured.medium)
    return {
        "options": options,
        "medium_median_s": float(np.median(seconds)),
        "medium_mean_s": float(np.mean(seconds)),
        "original_median_s": ORIGINAL_MEDIAN_S,
        "original_mean_s": ORIGINAL_MEAN_S,
        "medium_solved_within_pushes": {n: plan_figures.solved_within(measured.medium_idfs, n) for n in _WITHIN},
        "tree_vs_idfs_by_depth": {
            depth: {"searches": len(pairs), "ratio": plan_figures.tree_vs_idfs(pairs)}
            for depth, pairs in depths.items()
        },
        "easy": [asdict(row) for row in measured.easy],
        "medium": [asdict(pair) for pair in measured.medium],
    }


def table(measured: Measured) -> Table:
    """For people."""
    title = f"idfs + no_heuristic, {len(measured.easy)} scenes of each difficulty"
    made = Table("set", "solved", "95 % interval", "median s", "mean s", "solved per hour and core", title=title)
    for name, rows in (("easy", measured.easy), ("medium", measured.medium_idfs)):
        low, high = wilson_interval(sum(row.solved for row in rows), len(rows))
        seconds = [row.cpu_s for row in rows]
        shares = (f"{plan_figures.solved_share(rows):.1%}", f"{low:.1%} {high:.1%}")
        times = (f"{np.median(seconds):.2f}", f"{np.mean(seconds):.2f}", f"{plan_figures.solved_per_hour(rows):.0f}")
        made.add_row(name, *shares, *times)
    made.add_row("original, medium", "88.7%", "", f"{ORIGINAL_MEDIAN_S}", f"{ORIGINAL_MEAN_S}", "")
    depths = plan_figures.by_depth(measured.medium).items()
    ratios = ", ".join(
        f"depth {depth}: {plan_figures.tree_vs_idfs(pairs):.2f} of {len(pairs)}" for depth, pairs in depths
    )
    whole = plan_figures.tree_vs_idfs(measured.medium)
    made.caption = f"expansions of tree_idfs / idfs on medium: {whole:.3f} ({ratios})"
    return made


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("mujoco", "numpy", "scipy")},
    }


def _figure(
    name: str, value: float, unit: str, bar: float | tuple[float, float] | None, holds: bool | None
) -> dict[str, Any]:
    # JSON has no NaN: nothing could be compared.
    known = value if np.isfinite(value) else None
    return {"name": name, "value": known, "unit": unit, "bar": bar, "holds": None if known is None else holds}


if __name__ == "__main__":
    sys.exit(main())
