"""`headrace bench export`: exports against the disk, and against the writers of the libraries that they are for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from deploy.bench.export.disk import act_vs_disk
from deploy.bench.export.lerobot import LeRobotBench
from deploy.bench.figures import Figure, table, write_json
from deploy.bench.frames import jpeg_frames
from deploy.bench.infer.servers import run_python
from protocol.errors import ConfigurationError

_FILE_WIDTH = 120
_FRAMES = 64
PARTS = ("act", "lerobot")


@dataclass(frozen=True)
class ExportBenchFlags:
    """Measure the ACT export against plain writing, and the LeRobot export against LeRobot's own writer."""

    only: tuple[str, ...] = PARTS
    """Measure these parts only: act, lerobot."""
    lerobot_python: Path | None = None
    """The Python of an environment that has lerobot 0.4, e.g. build/interop/lerobot/bin/python after `make interop`."""
    codec: Literal["av1", "h264"] = "av1"
    """Of the video."""
    rounds: int = 3
    """Measurements; the figure is the median of their ratios."""
    episodes: int = 4
    """Episodes of the dataset."""
    steps: int = 150
    """Steps of each, with two cameras."""
    size: tuple[int, int] = (480, 640)
    """Height and width of an image [pixels]."""
    frame_bytes: int = 45_000
    """Size of a JPEG [bytes]."""
    frames: Path | None = None
    """Folder of JPEGs to take instead of made ones."""
    workers: int = 2
    """Processes of our LeRobot export; ACT's is measured with one."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if the bar is not reached."""
    flags = tyro.cli(ExportBenchFlags, prog="headrace bench export", args=argv)
    if unknown := [name for name in flags.only if name not in PARTS]:
        raise ConfigurationError(f"--only {unknown[0]}: expected some of {', '.join(PARTS)}")
    for name in ("rounds", "episodes", "steps", "workers"):
        if getattr(flags, name) < 1:
            raise ConfigurationError(f"--{name} {getattr(flags, name)}: expected at least 1")
    if flags.lerobot_python is not None and not flags.lerobot_python.is_file():
        raise ConfigurationError(f"--lerobot-python {flags.lerobot_python}: expected a Python interpreter there")
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        root = Path(temporary)
        frames = flags.frames or _make_frames(root / "frames", flags)
        words = ["--data", str(root / "data"), "--frames", str(frames), "--episodes", str(flags.episodes)]
        run_python("sink.bench.episodes", [*words, "--steps", str(flags.steps)])
        say = partial(progress.print, highlight=False)
        figures, details = _measure(flags, root, frames, say)
    console.print(table("headrace bench export", figures))
    for name, why in details.get("left_out", {}).items():
        console.print(f"{name} is left out: {why}", highlight=False)
    if flags.json:
        write_json(flags.json, figures, {**details, "frame_bytes": flags.frame_bytes, "steps": flags.steps})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def _measure(
    flags: ExportBenchFlags, root: Path, frames: Path, say: Callable[[str], None]
) -> tuple[list[Figure], dict[str, Any]]:
    """The parts that are asked for, on the dataset below `root`."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    if "act" in flags.only:
        figures += act_vs_disk(root / "data", root / "act", flags.rounds, say)
    if "lerobot" in flags.only:
        bench = LeRobotBench(
            data=root / "data",
            frames=frames,
            episodes=flags.episodes,
            steps=flags.steps,
            codec=flags.codec,
            workers=flags.workers,
            python=flags.lerobot_python,
            work=root / "lerobot",
        )
        more, details = bench.measure(flags.rounds, say)
        figures += more
    return figures, details


def _make_frames(folder: Path, flags: ExportBenchFlags) -> Path:
    folder.mkdir()
    for number, frame in enumerate(jpeg_frames(_FRAMES, flags.frame_bytes, *flags.size)):
        (folder / f"{number:04}.jpg").write_bytes(frame)
    return folder
