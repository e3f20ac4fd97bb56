"""The parts of `headrace bench read`, one after the other, on episodes that the sink's own store has written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from deploy.bench.figures import Figure
from deploy.bench.frames import jpeg_frames
from deploy.bench.infer.servers import run_python
from deploy.bench.peers import lerobot_setup
from deploy.bench.peers.child import Child as PeerChild
from deploy.bench.peers.episodes import save_frames
from deploy.bench.peers.plan import PeerError
from deploy.bench.read.growth import Growth, measure_refresh, measure_training
from deploy.bench.read.peers import environment, robomimic_python
from deploy.bench.read.turns import Turns, forget, program, remember

PARTS = ("decode", "act", "robomimic", "lerobot", "refresh", "train")
CHUNK = 90
BATCH = 8
CAMERAS = ("front", "wrist")
_FRAMES = 64
_CHUNKS_SHARE = 32
_INSTALL_LIMIT_S = 900.0
_WRITE_LIMIT_S = 1800.0
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Plan:
    """How much is measured. samples: of one turn. size: (height, width). rate: new episodes a second."""

    rounds: int
    episodes: int
    steps: int
    samples: int
    train_steps: int
    size: tuple[int, int]
    frame_bytes: int
    rate: float


class ReadBench:
    """Measures one part after the other and keeps the figures. left_out: figure → why it was not measured."""

    def __init__(self, plan: Plan, root: Path, environments: Path | None, console: Console) -> None:
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self._plan, self._root, self._console = plan, root, console
        self._environments = (environments or root / "environments").absolute()
        # The last one: the first is where most systems put interrupts and what writes.
        self._core = max(os.sched_getaffinity(0))

    def measure(self, name: str) -> None:
        """One part; a loader that cannot be measured is left out with a reason. Raises PeerError, ProgramError."""
        self._say(f"{name} …")
        parts: dict[str, Callable[[], None]] = {
            "decode": self._decode, "act": self._act, "robomimic": self._robomimic, "lerobot": self._lerobot,
            "refresh": self._refresh, "train": self._train,
        }  # fmt: skip
        parts[name]()

    # --- the parts ------------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        """In memory, and by processor time: nothing waits, and what else runs on the machine does not count."""
        remember(self._data)
        settings = {"data": str(self._data), "samples": self._plan.samples, "core": self._core}
        ratios, rates, decoded = [], [], []
        with self._live() as live, Turns(program("trainer.bench.decode"), settings, self._log("decode")) as decode:
            live.take(), decode.take()
            for number in range(1, self._plan.rounds + 1):
                before, ours, after = decode.per_cpu_s(), live.per_cpu_s(), decode.per_cpu_s()
                rates.append(ours)
                decoded += [before, after]
                ratios.append(2 * ours / (before + after))
                self._say(f"  {number}: decoding {before:.0f} and {after:.0f}, LiveDataset {ours:.0f} samples/s")
        self._add("read.vs_decode", ratios, "×", 0.85)
        self._add("read.samples_per_s", rates, "/s")
        self._add("read.decode_per_s", decoded, "/s")

    def _act(self) -> None:
        settings = {**self._settings, "folder": str(self._files["act"])}
        with Turns(program("trainer.bench.act"), settings, self._log("act")) as act:
            self._compare("act", act, self._files["act"], 2.0)
            with self._live("float32") as live:
                self._compare("act_float", act, self._files["act"], None, live)

    def _robomimic(self) -> None:
        try:
            python = robomimic_python(self._environments / "robomimic", self._say)
            path = self._files["robomimic"]
            words = [str(python), "-P", str(_ROOT / "trainer/bench/robomimic_program.py")]
            # A sample with a chunk of actions has a chunk of frames there, so few samples take as long as many.
            chunks = {"sequence": CHUNK, "batch": 1, "samples": max(self._plan.samples // _CHUNKS_SHARE, 1)}
            ones = {"sequence": 1}
            for name, bar, changes in (("robomimic", 2.0, chunks), ("robomimic_one_action", None, ones)):
                settings = {**self._settings, "path": str(path), **changes}
                with Turns(words, settings, self._log(name), environment()) as robomimic:
                    self._compare(name, robomimic, path, bar)
        except PeerError as error:
            self.left_out["read.vs_robomimic"] = str(error)

    def _lerobot(self) -> None:
        folder = self._environments / "lerobot"
        try:
            python = lerobot_setup.prepare(lerobot_setup.Setup(folder, _INSTALL_LIMIT_S), self._say)
            home = lerobot_setup.environment(folder / "home")
            root = self._write_lerobot(python, home)
            words = lerobot_setup.words(python, _ROOT / "trainer/bench/lerobot_program.py")
            settings = {**self._settings, "root": str(root)}
            with Turns(words, settings, self._log("lerobot"), home) as lerobot:
                self._compare("lerobot", lerobot, root, 8.0)
        except PeerError as error:
            self.left_out["read.vs_lerobot"] = str(error)

    def _refresh(self) -> None:
        found = measure_refresh(self._root / "rows", self._core, self._plan.rounds)
        self._add("read.refresh_idle_us", found.idle_us, "us", 50.0, "at_most")
        self._add("read.refresh_1000_ms", found.news_ms, "ms", 10.0, "at_most")

    def _train(self) -> None:
        settings = {"batch": BATCH, "chunk": CHUNK, "steps": self._plan.train_steps, "core": self._core}
        image = [side // 4 for side in self._plan.size]
        grow = Growth(self._data, self._frames, self._plan.steps, self._plan.rate)
        found = measure_training(grow, {**settings, "image": image}, self._plan.rounds, self._say)
        self.details["train"] = {"new_episodes": found.new_episodes}
        self._add("train.growing_vs_frozen", found.ratios, "×", 0.95)
        self._add("train.growing_vs_frozen_cpu", found.cpu_ratios, "×")
        self._add("train.steps_per_s", found.frozen, "/s")

    # --- what they share --------------------------------------------------------------------------------------------

    def _compare(self, name: str, other: Turns, place: Path, bar: float | None, live: Turns | None = None) -> None:
        """In turns; each finds nothing of its files in memory."""
        if live is None:
            with self._live() as opened:
                return self._compare(name, other, place, bar, opened)
        ratios, ours, theirs = [], [], []
        for number in range(1, self._plan.rounds + 1):
            forget(self._data)
            ours.append(live.per_s())
            forget(place)
            theirs.append(other.per_s())
            ratios.append(ours[-1] / theirs[-1])
            self._say(f"  {number}: LiveDataset {ours[-1]:.0f}, {name} {theirs[-1]:.1f} samples/s")
        self.details[name] = {"ours_per_s": ours, "theirs_per_s": theirs}
        return self._add(f"read.vs_{name}", ratios, "×", bar)

    def _live(self, dtype: str = "uint8") -> Turns:
        settings = {**self._settings, "data": str(self._data), "dtype": dtype}
        return Turns(program("trainer.bench.live"), settings, self._log(f"live-{dtype}"))

    @property
    def _settings(self) -> dict[str, Any]:
        return {"samples": self._plan.samples, "chunk": CHUNK, "batch": BATCH, "core": self._core}

    @cached_property
    def _jpegs(self) -> Sequence[bytes]:
        self._say("making frames …")
        return jpeg_frames(_FRAMES, self._plan.frame_bytes, *self._plan.size)

    @cached_property
    def _frames(self) -> Path:
        folder = self._root / "frames"
        folder.mkdir()
        for number, frame in enumerate(self._jpegs):
            (folder / f"{number:04}.jpg").write_bytes(frame)
        return folder

    @cached_property
    def _data(self) -> Path:
        data = self._root / "data"
        words = ["--data", str(data), "--frames", str(self._frames), "--episodes", str(self._plan.episodes)]
        run_python("sink.bench.episodes", [*words, "--steps", str(self._plan.steps)])
        return data

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The same episodes in the formats of others."""
        self._say("writing the same episodes as others keep them …")
        places = {"act": self._root / "act", "robomimic": self._root / "robomimic" / "demo.hdf5"}
        asked = {"data": str(self._data), **{name: str(place) for name, place in places.items()}}
        run_python("trainer.bench.write_files", [json.dumps(asked)])
        return places

    def _write_lerobot(self, python: Path, home: dict[str, str]) -> Path:
        """The same frames as video, written by LeRobot itself."""
        plan, out = self._plan, self._root / "lerobot"
        out.mkdir()
        save_frames(self._root / "frames.npz", self._jpegs)
        task = {
            "peer": "lerobot_video", "frames": str(self._root / "frames.npz"), "out": str(out), "hold": False,
            "episodes": plan.episodes, "steps": plan.steps, "cameras": CAMERAS, "budget_s": _WRITE_LIMIT_S,
        }  # fmt: skip
        words = [*lerobot_setup.words(python, _ROOT / "deploy/bench/peers/lerobot_program.py"), json.dumps(task)]
        with PeerChild(words, self._log("lerobot-write"), home) as child:
            child.line(_WRITE_LIMIT_S)
        return out / "dataset"

    def _log(self, name: str) -> Path:
        return self._root / f"{name}.log"

    def _add(self, name: str, runs: list[float], unit: str, bar: float | None = None, sense: Any = "at_least") -> None:
        self.figures.append(Figure(name, median(runs), unit, bar, sense, runs))

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)
