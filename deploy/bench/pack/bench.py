"""The parts of `headrace bench pack`. Rates are of one core, by processor time, with the files in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console

from deploy.bench.figures import Figure
from deploy.bench.infer.servers import run_python
from deploy.bench.peers import lerobot_setup
from deploy.bench.peers.child import Child
from deploy.bench.peers.episodes import save_frames
from deploy.bench.peers.plan import PeerError
from deploy.bench.read.turns import Turns, files, program, remember
from protocol.dataset_view import DatasetView
from protocol.errors import DatasetError

PARTS = ("pack", "read", "lerobot")
_CHUNK, _BATCH = 90, 8
_LIMIT_S = 1800.0
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Plan:
    """data: to be packed; None: collect `episodes`. samples: of one turn."""

    data: Path | None
    episodes: int
    rounds: int
    samples: int


class PackBench:
    """Measures one part after the other and keeps the figures. left_out: figure → why it was not measured."""

    def __init__(self, plan: Plan, root: Path, environments: Path | None, console: Console) -> None:
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self._plan, self._root, self._console = plan, root, console
        self._environments = (environments or root / "environments").absolute()
        self._core = max(os.sched_getaffinity(0))

    def measure(self, name: str) -> None:
        """One part. Raises ProgramError, PeerError, DatasetError."""
        self._console.print(f"{name} …", highlight=False)
        {"pack": self._pack, "read": self._read, "lerobot": self._lerobot}[name]()

    # --- the parts ------------------------------------------------------------------------------------------------

    def _pack(self) -> None:
        report, quality = self._report, self._quality(packed=str(self._packed))
        self.details["pack"] = {
            name: report[name] for name in ("source_bytes", "packed_bytes", "frames", "seconds", "cpu_s")
        }
        self._add("pack.ratio", [report["ratio"]], "×", 2.5)
        self._add("pack.psnr_mean_db", [report["psnr_db"]["mean"]], "dB", 38.0)
        self._add("pack.psnr_least_db", [report["psnr_db"]["least"]], "dB")
        self._add("pack.ssim_mean", [quality["ssim_mean"]], "")
        self._add("pack.ssim_least", [quality["ssim_least"]], "")
        self._add("pack.frames_per_s", [report["frames"] / report["cpu_s"]], "/s")

    def _read(self) -> None:
        """Random frames through LiveDataset, of JPEG and packed, in turns."""
        for place in (self._data, self._packed):
            remember(place)
        rates: dict[str, list[float]] = {"jpeg": [], "packed": []}
        with self._live(self._data) as jpeg, self._live(self._packed) as packed:
            for _ in range(self._plan.rounds):
                rates["jpeg"].append(jpeg.per_cpu_s() * self._cameras)
                rates["packed"].append(packed.per_cpu_s() * self._cameras)
        self._add("pack.random_frames_per_s", rates["packed"], "/s")
        self._add("pack.random_jpeg_frames_per_s", rates["jpeg"], "/s")
        ratios = [ours / before for ours, before in zip(rates["packed"], rates["jpeg"], strict=True)]
        self._add("pack.random_vs_jpeg", ratios, "×")

    def _lerobot(self) -> None:
        folder = self._environments / "lerobot"
        try:
            python = lerobot_setup.prepare(lerobot_setup.Setup(folder, _LIMIT_S), self._console.print)
            home = lerobot_setup.environment(folder / "home")
            written = self._write_lerobot(python, home)
            remember(written)
            words = lerobot_setup.words(python, _ROOT / "trainer/bench/lerobot_program.py")
            settings = {**self._settings, "root": str(written)}
            with Turns(words, settings, self._root / "lerobot.log", home) as lerobot:
                rates = [lerobot.per_cpu_s() * self._cameras for _ in range(self._plan.rounds)]
        except PeerError as error:
            self.left_out["lerobot"] = str(error)
            return
        self._add("lerobot.random_frames_per_s", rates, "/s")

    # --- what they share ------------------------------------------------------------------------------------------

    def _write_lerobot(self, python: Path, home: dict[str, str]) -> Path:
        """The same frames, each episode cut to the shortest, as LeRobot's own writer encodes them; its figures too."""
        with DatasetView(self._data) as view:
            episodes = [episode for episode in view.new_episodes() if episode.steps]
            steps, cameras = min(episode.steps for episode in episodes), list(episodes[0].shard.cameras)
            frames = [e.frame(name, step) for e in episodes for step in range(steps) for name in cameras]
            count, size = len(episodes), sum(map(len, frames))
        save_frames(self._root / "frames.npz", frames)
        out = self._root / "lerobot"
        out.mkdir()
        task = {
            "peer": "lerobot_video", "frames": str(self._root / "frames.npz"), "out": str(out), "hold": False,
            "episodes": count, "steps": steps, "cameras": cameras, "budget_s": _LIMIT_S,
        }  # fmt: skip
        words = [*lerobot_setup.words(python, _ROOT / "deploy/bench/peers/lerobot_program.py"), json.dumps(task)]
        with Child(words, self._root / "lerobot-write.log", home) as child:
            told = json.loads(child.line(_LIMIT_S))
        videos = {
            name: [str(path) for path in files(out / "dataset" / "videos" / f"observation.images.{name}")]
            for name in cameras
        }
        quality = self._quality(videos=videos, steps=steps)
        stored = sum(Path(path).stat().st_size for paths in videos.values() for path in paths)
        self._add("lerobot.ratio", [size / stored], "×")
        for name, unit in (("psnr_mean", "dB"), ("psnr_least", "dB"), ("ssim_mean", ""), ("ssim_least", "")):
            self._add(f"lerobot.{name}{'_db' if unit else ''}", [quality[name]], unit)
        self._add("lerobot.frames_per_s", [told["frames"] / told["seconds"]], "/s")
        return out / "dataset"

    def _quality(self, **changes: Any) -> dict[str, float]:
        settings = {"data": str(self._data), **changes}
        found: dict[str, float] = json.loads(run_python("sink.bench.image_quality", [json.dumps(settings)]))
        return found

    @cached_property
    def _data(self) -> Path:
        """Sealed shards; collected unless they were given."""
        if self._plan.data is not None:
            return self._plan.data
        self._console.print(f"collecting {self._plan.episodes} episodes …", highlight=False)
        data = self._root / "data"
        run_python("deploy.main", ["up", "--data", str(data), "--episodes", str(self._plan.episodes)])
        return data

    @cached_property
    def _report(self) -> dict[str, Any]:
        words = ["pack", str(self._data), "--out", str(self._root / "packed"), "--json"]
        # What was collected here is finished; somebody else's dataset is not touched.
        run = run_python("deploy.main", [*words, *(["--finished"] if self._plan.data is None else [])])
        report: dict[str, Any] = json.loads(run)
        if not report["packed"]:
            raise DatasetError(f"{self._data} has no full shard with cameras to pack; `headrace pack` tells more")
        return report

    @property
    def _packed(self) -> Path:
        assert self._report
        return self._root / "packed"

    @cached_property
    def _cameras(self) -> int:
        with DatasetView(self._data) as view:
            return len(next(iter(view.shards.values())).cameras)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"samples": self._plan.samples, "chunk": _CHUNK, "batch": _BATCH, "core": self._core}

    def _live(self, data: Path) -> Turns:
        settings = {**self._settings, "data": str(data), "dtype": "uint8"}
        return Turns(program("trainer.bench.live"), settings, self._root / f"{data.name}.log")

    def _add(
        self, name: str, runs: Sequence[float], unit: str, bar: float | None = None,
        sense: Literal["at_least", "at_most"] = "at_least",
    ) -> None:  # fmt: skip
        self.figures.append(Figure(name, median(runs), unit, bar, sense, list(runs) if len(runs) > 1 else []))
