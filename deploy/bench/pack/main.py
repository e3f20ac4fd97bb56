"""`headrace bench pack`: size, images and rates of a packed dataset, beside its JPEGs and LeRobot's video."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from deploy.bench.figures import table, write_json
from deploy.bench.pack.bench import PARTS, PackBench, Plan
from protocol.errors import ConfigurationError

_FILE_WIDTH = 120


@dataclass(frozen=True)
class PackBenchFlags:
    """Pack a dataset, and measure sizes, differences of images and rates of reading, also of LeRobot's video."""

    only: tuple[str, ...] = PARTS
    """Measure these parts only: pack, read, lerobot."""
    data: Path | None = None
    """Dataset with full shards, of one robosuite stream; it is only read. Without it PickPlaceCan is collected."""
    episodes: int = 4
    """How many are collected."""
    rounds: int = 3
    """Rounds of each measurement of a rate."""
    samples: int = 128
    """Samples of one such measurement."""
    environments: Path | None = None
    """Where LeRobot's virtual environment is made and kept; thrown away by default."""
    out: Path | None = None
    """Measure on the disk of this directory; a temporary directory by default."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(PackBenchFlags, prog="headrace bench pack", args=argv)
    unknown = [name for name in flags.only if name not in PARTS]
    if unknown or min(flags.episodes, flags.rounds, flags.samples) < 1:
        raise ConfigurationError(
            f"--only takes {', '.join(PARTS)}, found {unknown}; --episodes, --rounds and --samples must be at least 1"
        )
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=flags.out) as temporary:
        plan = Plan(flags.data, flags.episodes, flags.rounds, flags.samples)
        bench = PackBench(plan, Path(temporary), flags.environments, Console(stderr=True))
        for name in flags.only:
            bench.measure(name)
    console.print(table("headrace bench pack", bench.figures))
    for name, why in bench.left_out.items():
        console.print(f"{name} is left out: {why}", highlight=False)
    if flags.json:
        write_json(flags.json, bench.figures, {**bench.details, "left_out": bench.left_out})
    return 0 if all(figure.holds is not False for figure in bench.figures) else 1
