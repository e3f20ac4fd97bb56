"""Our LeRobot export with video against LeRobot's own writer, with the same codec settings.

Both begin with the same frames. Ours are read from a dataset, compared with their checksums and decoded in the measured
time; LeRobot is handed decoded arrays. LeRobot has two ways, over PNG files and by encoding as frames come; each round
measures both, and the faster one counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from deploy.bench.figures import Figure
from deploy.bench.infer.servers import run_python
from deploy.bench.peers.child import run
from deploy.bench.peers.lerobot_setup import environment
from deploy.bench.peers.plan import PeerError

FIGURE = "export.lerobot_vs_lerobot"
AT_LEAST = 1.5
_RATE_HZ = 50
_CAMERAS = ("front", "wrist")
_LIMIT_S = 1800.0
_WAYS = {"png": False, "streaming": True}


@dataclass(frozen=True)
class LeRobotBench:
    """data: of `sink.bench.episodes`, made of `frames`. python: that has lerobot, or None. work: for the exports."""

    data: Path
    frames: Path
    episodes: int
    steps: int
    codec: Literal["av1", "h264"]
    workers: int
    python: Path | None
    work: Path

    def measure(self, rounds: int, say: Callable[[str], None]) -> tuple[list[Figure], dict[str, Any]]:
        """Figures and details; what was left out, with the reason, is `left_out` of these. Raises ProgramError."""
        self.work.mkdir()
        ours: list[float] = []
        theirs: dict[str, list[float]] = {way: [] for way in _WAYS}
        why = None if self.python else "say with --lerobot-python which Python has lerobot (`make interop` makes one)"
        for number in range(1, rounds + 1):
            ours.append(self._ours(self.work / f"ours{number}"))
            for way in _WAYS if why is None else ():
                try:
                    theirs[way].append(self._theirs(self.work / f"{way}{number}", way))
                except PeerError as error:
                    why = str(error)
            said = "".join(f", LeRobot {way} {rates[-1]:.0f}" for way, rates in theirs.items() if rates)
            say(f"  {number}: ours {ours[-1]:.0f}{said} frames/s")
        figures = [Figure("export.lerobot_frames_per_s", median(ours), "/s", runs=ours)]
        details: dict[str, Any] = {"codec": self.codec, "theirs_per_s": theirs}
        if why is not None:
            return figures, {**details, "left_out": {FIGURE: why}}
        ratios = [mine / max(both) for mine, *both in zip(ours, *theirs.values(), strict=True)]
        return [Figure(FIGURE, median(ratios), "×", AT_LEAST, runs=ratios), *figures], details

    def _ours(self, out: Path) -> float:
        """Frames a second."""
        words = ["lerobot", "--data", str(self.data), "--out", str(out), "--json"]
        said = run_python("sink.export", [*words, "--codec", self.codec, "--workers", str(self.workers)])
        report = json.loads(said)
        return float(report["frames"] / report["seconds"])

    def _theirs(self, out: Path, way: str) -> float:
        task = {
            "frames": str(self.frames.absolute()),
            "out": str(out),
            "episodes": self.episodes,
            "steps": self.steps,
            "cameras": _CAMERAS,
            "rate": _RATE_HZ,
            "codec": self.codec,
            "streaming": _WAYS[way],
        }
        program = Path(__file__).with_name("lerobot_program.py")
        words = [str(self.python), "-P", str(program), json.dumps(task)]
        said = run(words, self.work / "lerobot.log", _LIMIT_S, environment(self.work / "home"))
        report = json.loads(said)
        return float(report["frames"] / report["seconds"])
