"""`headrace bench read`: every figure of reading and of training while the dataset grows, in one run.

Ratios are taken in turns, round by round; the figure is the median of the rounds. Everything runs on one core, so that
samples a second are samples a second and core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import tyro
from rich.console import Console

from deploy.bench.figures import table, write_json
from deploy.bench.read.bench import PARTS, Plan, ReadBench
from protocol.errors import ConfigurationError

_FILE_WIDTH = 120


@dataclass(frozen=True)
class ReadBenchFlags:
    """Measure LiveDataset against decoding alone and against other loaders, its refresh, and training that follows."""

    only: tuple[str, ...] = PARTS
    """Measure these parts only: decode, act, robomimic, lerobot, refresh, train."""
    rounds: int = 5
    """Rounds of each comparison."""
    episodes: int = 12
    """Episodes of the dataset; others keep them uncompressed, 184 MB each at the default size."""
    steps: int = 100
    """Steps of an episode."""
    samples: int = 256
    """Samples of one measurement."""
    train_steps: int = 150
    """Training steps of one measurement."""
    rate: float = 2.0
    """New episodes while a policy is trained [Hz]; more than dozens of cores of simulation make."""
    size: tuple[int, int] = (480, 640)
    """Height and width of an image [pixels]."""
    frame_bytes: int = 75_000
    """Size of a JPEG [bytes]."""
    environments: Path | None = None
    """Where the virtual environments of other loaders are made and kept; thrown away by default."""
    out: Path | None = None
    """Measure on the disk of this directory; a temporary directory by default."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(ReadBenchFlags, prog="headrace bench read", args=argv)
    unknown = [name for name in flags.only if name not in PARTS]
    counts = (flags.rounds, flags.episodes, flags.samples, flags.train_steps, flags.steps - 1)
    if unknown or min(counts) < 1 or flags.rate <= 0:
        raise ConfigurationError(
            f"--only takes {', '.join(PARTS)}, found {unknown}; --rounds, --episodes, --samples and --train-steps must "
            "be at least 1, --steps at least 2, --rate above 0"
        )
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Plan)]
    plan = Plan(**{name: getattr(flags, name) for name in names})
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=flags.out) as temporary:
        bench = ReadBench(plan, Path(temporary), flags.environments, Console(stderr=True))
        for name in flags.only:
            bench.measure(name)
    console.print(table("headrace bench read", bench.figures))
    for name, why in bench.left_out.items():
        console.print(f"{name} is left out: {why}", highlight=False)
    if flags.json:
        write_json(flags.json, bench.figures, {**bench.details, "left_out": bench.left_out})
    return 0 if all(figure.holds is not False for figure in bench.figures) else 1
