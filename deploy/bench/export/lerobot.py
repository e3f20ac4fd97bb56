"""Our LeRobot export with video against LeRobot's own writer, with the same codec settings.

Both begin with the same frames. Ours are read from a dataset, compared with their checksums and decoded in the measured
time; LeRobot is handed decoded arrays. LeRobot has two ways, over PNG files and by encoding as frames come; the first
round measures both, and the others the faster one, which counts.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from deploy.bench.figures import Figure
from deploy.bench.infer.servers import run_python
from deploy.bench.peers import lerobot_setup
from deploy.bench.peers.child import run
from deploy.bench.peers.plan import PeerError

FIGURE = "export.lerobot_vs_lerobot"
AT_LEAST = 1.5
_RATE_HZ = 50
_CAMERAS = ("front", "wrist")
_LIMIT_S = 1800.0
_WAYS = {"png": False, "streaming": True}


@dataclass(frozen=True)
class Rates:
    """Frames a second, by the clock and of processor time. Ours has the interpreter's start in the latter."""

    per_s: float
    per_cpu_s: float


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
        ours: list[Rates] = []
        theirs: dict[str, list[Rates]] = {way: [] for way in _WAYS}
        why = None if self.python else "say with --lerobot-python which Python has lerobot (`make interop` makes one)"
        ways = list(_WAYS)
        for number in range(1, rounds + 1):
            ours.append(self._ours(self.work / f"ours{number}"))
            for way in ways if why is None else ():
                try:
                    theirs[way].append(self._theirs(self.work / f"{way}{number}", way))
                except PeerError as error:
                    why = str(error)
            said = "".join(f", LeRobot {way} {theirs[way][-1].per_s:.0f}" for way in ways if theirs[way])
            say(f"  {number}: ours {ours[-1].per_s:.0f}{said} frames/s")
            if why is None:
                ways = [max(ways, key=lambda way: theirs[way][0].per_s)]
        figures = [_figure("export.lerobot_frames_per_s", [rates.per_s for rates in ours], "/s")]
        details = {"codec": self.codec, "theirs": {way: [asdict(r) for r in rates] for way, rates in theirs.items()}}
        if why is not None:
            return figures, {**details, "left_out": {FIGURE: why}}
        rows = list(zip(ours, theirs[ways[0]], strict=True))
        compared = [
            _figure(FIGURE, [mine.per_s / other.per_s for mine, other in rows], "×", AT_LEAST),
            _figure(f"{FIGURE}_cpu", [mine.per_cpu_s / other.per_cpu_s for mine, other in rows], "×"),
        ]
        return [*compared, *figures], details

    def _ours(self, out: Path) -> Rates:
        words = ["export", "lerobot", "--data", str(self.data), "--out", str(out), "--json"]
        used = _children_cpu_s()
        said = run_python("deploy.main", [*words, "--codec", self.codec, "--workers", str(self.workers)])
        report = json.loads(said)
        return Rates(report["frames"] / report["seconds"], report["frames"] / (_children_cpu_s() - used))

    def _theirs(self, out: Path, way: str) -> Rates:
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
        assert self.python is not None
        program = Path(__file__).with_name("lerobot_program.py")
        words = [*lerobot_setup.words(self.python, program), json.dumps(task)]
        said = run(words, self.work / "lerobot.log", _LIMIT_S, lerobot_setup.environment(self.work / "home"))
        report = json.loads(said)
        return Rates(report["frames"] / report["seconds"], report["frames"] / report["cpu_s"])


def _figure(name: str, runs: list[float], unit: str, bar: float | None = None) -> Figure:
    return Figure(name, median(runs), unit, bar, runs=runs)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
