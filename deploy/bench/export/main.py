"""`headrace bench export`: our LeRobot export with video against LeRobot's own writer, with the same codec settings.

Both begin with the same frames. Ours are read from a dataset, compared with their checksums and decoded in the measured
time; LeRobot is handed decoded arrays. LeRobot has two ways, over PNG files and by encoding as frames come; each round
measures both, and the faster one counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import tyro
from rich.console import Console

from deploy.bench.figures import Figure, table, write_json
from deploy.bench.frames import jpeg_frames
from deploy.bench.infer.servers import run_python
from deploy.bench.peers.child import run
from deploy.bench.peers.lerobot_setup import environment
from deploy.bench.peers.plan import PeerError
from protocol.errors import ConfigurationError

FIGURE = "export.lerobot_vs_lerobot"
AT_LEAST = 1.5
_FILE_WIDTH = 120
_FRAMES = 64
_RATE_HZ = 50
_CAMERAS = ("front", "wrist")
_LIMIT_S = 1800.0
_WAYS = {"png": False, "streaming": True}


@dataclass(frozen=True)
class ExportBenchFlags:
    """Measure `headrace export lerobot` against LeRobotDataset's own writer."""

    lerobot_python: Path | None = None
    """The Python of an environment that has lerobot 0.4, e.g. build/interop/lerobot/bin/python after `make interop`."""
    codec: Literal["av1", "h264"] = "h264"
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
    """Processes of our export."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if the bar is not reached."""
    flags = tyro.cli(ExportBenchFlags, prog="headrace bench export", args=argv)
    for name in ("rounds", "episodes", "steps", "workers"):
        if getattr(flags, name) < 1:
            raise ConfigurationError(f"--{name} {getattr(flags, name)}: expected at least 1")
    if flags.lerobot_python is not None and not flags.lerobot_python.is_file():
        raise ConfigurationError(f"--lerobot-python {flags.lerobot_python}: expected a Python interpreter there")
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        figures, details = ExportBench(flags, Path(temporary), Console(stderr=True)).measure()
    console.print(table(f"headrace bench export, {flags.codec}", figures))
    if "left_out" in details:
        console.print(f"{FIGURE} is left out: {details['left_out']}", highlight=False)
    if flags.json:
        write_json(flags.json, figures, details)
    return 0 if all(figure.holds is not False for figure in figures) else 1


class ExportBench:
    """One run of the bench in a folder of its own."""

    def __init__(self, flags: ExportBenchFlags, root: Path, console: Console) -> None:
        self._flags, self._root, self._console = flags, root, console
        self._count = 0

    def measure(self) -> tuple[list[Figure], dict[str, Any]]:
        """Figures and details. Raises ProgramError."""
        flags = self._flags
        frames = flags.frames or self._make_frames()
        words = ["--data", str(self._root / "data"), "--frames", str(frames)]
        run_python("sink.bench.episodes", [*words, "--episodes", str(flags.episodes), "--steps", str(flags.steps)])
        ours: list[float] = []
        theirs: dict[str, list[float]] = {way: [] for way in _WAYS}
        why = None if flags.lerobot_python else "say with --lerobot-python which Python has lerobot (`make interop`)"
        for number in range(1, flags.rounds + 1):
            ours.append(self._ours())
            for way in _WAYS if why is None else ():
                try:
                    theirs[way].append(self._theirs(frames, way))
                except PeerError as error:
                    why = str(error)
            said = ", ".join(f"LeRobot {way} {rates[-1]:.0f}" for way, rates in theirs.items() if rates)
            self._console.print(f"  {number}: ours {ours[-1]:.0f} {said} frames/s", highlight=False)
        figures = [Figure("export.lerobot_frames_per_s", median(ours), "/s", runs=ours)]
        details: dict[str, Any] = {"codec": flags.codec, "frame_bytes": flags.frame_bytes, "theirs_per_s": theirs}
        if why is not None:
            return figures, {**details, "left_out": why}
        ratios = [mine / max(both) for mine, *both in zip(ours, *theirs.values(), strict=True)]
        return [Figure(FIGURE, median(ratios), "×", AT_LEAST, runs=ratios), *figures], details

    def _make_frames(self) -> Path:
        folder = self._root / "frames"
        folder.mkdir()
        for number, frame in enumerate(jpeg_frames(_FRAMES, self._flags.frame_bytes, *self._flags.size)):
            (folder / f"{number:04}.jpg").write_bytes(frame)
        return folder

    def _ours(self) -> float:
        """Frames a second."""
        words = ["lerobot", "--data", str(self._root / "data"), "--out", str(self._new()), "--json"]
        said = run_python("sink.export", [*words, "--codec", self._flags.codec, "--workers", str(self._flags.workers)])
        report = json.loads(said)
        return float(report["frames"] / report["seconds"])

    def _theirs(self, frames: Path, way: str) -> float:
        flags = self._flags
        task = {
            "frames": str(frames.absolute()),
            "out": str(self._new()),
            "episodes": flags.episodes,
            "steps": flags.steps,
            "cameras": _CAMERAS,
            "rate": _RATE_HZ,
            "codec": flags.codec,
            "streaming": _WAYS[way],
        }
        program = Path(__file__).with_name("lerobot_program.py")
        words = [str(flags.lerobot_python), "-P", str(program), json.dumps(task)]
        report = json.loads(run(words, self._root / "lerobot.log", _LIMIT_S, environment(self._root / "home")))
        return float(report["frames"] / report["seconds"])

    def _new(self) -> Path:
        self._count += 1
        return self._root / f"out{self._count}"
