"""`headrace bench page`: what it costs the ingest that somebody looks at the page, in a browser on the same machine.

Without, with and without again, round by round; the figure is the median of the rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console

from deploy.bench.browser import find_chromium
from deploy.bench.figures import Figure, table, write_json
from deploy.bench.frames import jpeg_frames
from deploy.bench.sink.ingest import IngestBench, Plan
from protocol.errors import ConfigurationError

_FRAMES, _FRAME = 64, (75_000, 480, 640)
_FILE_WIDTH = 120


@dataclass(frozen=True)
class PageBenchFlags:
    """Measure ingest at full speed, with the page open in a headless Chromium and without."""

    rounds: int = 7
    """Rounds of the comparison."""
    gigabytes: float = 1.5
    """Frames of one run [GB]."""
    steps: int = 100
    """Frames of an episode, 75 kB each."""
    out: Path | None = None
    """Measure on the disk of this directory; a temporary directory by default."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(PageBenchFlags, prog="headrace bench page", args=argv)
    if flags.rounds < 1:
        raise ConfigurationError("--rounds must be at least 1")
    find_chromium()
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=flags.out) as temporary:
        figures = _measure(flags, Path(temporary), Console(stderr=True))
    console.print(table("headrace bench page", figures))
    if flags.json:
        write_json(flags.json, figures, {})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def _measure(flags: PageBenchFlags, root: Path, console: Console) -> list[Figure]:
    console.print("making frames …", highlight=False)
    frames = jpeg_frames(_FRAMES, *_FRAME)
    folder = root / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames):
        (folder / f"{number:04}.jpg").write_bytes(frame)
    size = sum(map(len, frames)) / len(frames)
    episodes = max(2, round(flags.gigabytes * 1e9 / size / flags.steps / 2) * 2)
    bench = IngestBench(root, Plan(folder, episodes, flags.steps))
    costs, rates = [], []
    for number in range(1, flags.rounds + 1):
        before, watched, after = bench.sink(), bench.sink(watched=True), bench.sink()
        costs.append(1 - 2 * watched / (before + after))
        rates.append(watched)
        console.print(f"  {number}: {before:.0f} and {after:.0f}, watched {watched:.0f} MB/s", highlight=False)
    return [
        Figure("page.cost", median(costs), "", 0.02, "at_most", costs),
        Figure("page.ingest_mb_per_s", median(rates), "MB/s", runs=rates),
    ]
