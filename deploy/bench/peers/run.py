"""Every peer in turn, each in a process of its own: how fast it writes, who can read meanwhile, what a kill leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.bench.peers import lerobot_setup
from deploy.bench.peers.child import Child, run
from deploy.bench.peers.episodes import save_frames
from deploy.bench.peers.plan import PEERS, PROMISES, PeerError, PeerPlan, PeerResult
from protocol.errors import ConfigurationError

Say = Callable[[str], None]

# The crash is tried with short episodes: where it strikes matters, not how long it takes to come there.
_CRASH_STEPS = 20
_READ_LIMIT_S = 60.0
_LEROBOT_PROGRAM = Path(__file__).with_name("lerobot_program.py")


def run_peers(frames: Sequence[bytes], plan: PeerPlan, scratch: Path, say: Say) -> list[PeerResult]:
    """Measure the peers of a plan. frames: JPEG, taken in turns. scratch: a folder on the disk that is measured.

    A peer that cannot be measured has its reason in `left_out`. Raises ConfigurationError for a plan that cannot be.
    """
    _check(frames, plan)
    scratch.mkdir(parents=True, exist_ok=True)
    save_frames(scratch / "frames.npz", frames)
    bench = _Bench(plan, scratch, say)
    results = []
    for name in plan.peers:
        say(f"peer {name} …")
        try:
            results.append(bench.measure(name))
        except PeerError as error:
            say(f"{name} is left out: {error}")
            results.append(replace(_empty(name), left_out=str(error)))
    return results


def _check(frames: Sequence[bytes], plan: PeerPlan) -> None:
    unknown = [name for name in plan.peers if name not in PROMISES]
    if unknown:
        raise ConfigurationError(f"there is no peer {unknown[0]!r}; expected some of: {', '.join(PEERS)}")
    if not frames or not plan.cameras or plan.episodes < 1 or plan.steps < 2:
        raise ConfigurationError("peers need at least one frame, one camera, one episode and two steps")


def _empty(name: str) -> PeerResult:
    return PeerResult(name, PROMISES[name], durable=name.endswith("_fsync"))


@dataclass(frozen=True)
class _Programs:
    """How the programs of a peer are started: before their argument come `writer` and `reader`."""

    writer: Sequence[str]
    reader: Sequence[str]
    environment: Mapping[str, str] | None = None


_H5PY = _Programs(
    (sys.executable, "-m", "deploy.bench.peers.writer"), (sys.executable, "-m", "deploy.bench.peers.reader")
)


@dataclass
class _Bench:
    plan: PeerPlan
    scratch: Path
    say: Say
    _lerobot_failed: str = field(default="", init=False)

    def measure(self, name: str) -> PeerResult:
        """One peer. Raises PeerError."""
        programs = self._lerobot() if name.startswith("lerobot") else _H5PY
        log, out = self.scratch / f"{name}.log", self._new_folder(name)
        task = self._task(name, out)
        with Child([*programs.writer, json.dumps(task)], log, programs.environment) as child:
            written = json.loads(child.line(self.plan.limit_s))
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
        while_written, after_kill = self._crash(name, programs)
        return replace(_empty(name), **written, disk_bytes=size, while_written=while_written, after_kill=after_kill)

    def _crash(self, name: str, programs: _Programs) -> tuple[str, str]:
        """What a reader finds in the middle of the second episode, and after SIGKILL there."""
        log, out = self.scratch / f"{name}.crash.log", self._new_folder(f"{name}.crash")
        steps = min(self.plan.steps, _CRASH_STEPS)
        task = {**self._task(name, out), "episodes": 2, "steps": steps, "budget_s": self.plan.limit_s, "hold": True}
        with Child([*programs.writer, json.dumps(task)], log, programs.environment) as child:
            if json.loads(child.line(self.plan.limit_s)) != {"holding": True}:
                raise PeerError("it did not stop in the middle of the second episode")
            while_written = self._look(name, programs, out)
            child.kill()
            after_kill = self._look(name, programs, out)
        shutil.rmtree(out)
        return while_written, after_kill

    def _look(self, name: str, programs: _Programs, out: Path) -> str:
        try:
            return run(
                [*programs.reader, str(out)], self.scratch / f"{name}.read.log", _READ_LIMIT_S, programs.environment
            )
        except PeerError as error:
            return f"the reader failed: {error}"

    def _task(self, name: str, out: Path) -> dict[str, Any]:
        plan = self.plan
        measured = {"episodes": plan.episodes, "steps": plan.steps, "cameras": plan.cameras, "budget_s": plan.budget_s}
        return {"peer": name, "frames": str(self.scratch / "frames.npz"), "out": str(out), "hold": False, **measured}

    def _new_folder(self, name: str) -> Path:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _lerobot(self) -> _Programs:
        """Both peers of LeRobot share one environment, and one reason."""
        if self._lerobot_failed:
            raise PeerError(self._lerobot_failed)
        python, environment = self._lerobot_python
        words = lerobot_setup.words(python, _LEROBOT_PROGRAM)
        return _Programs(words, [*words, "--read"], environment)

    @cached_property
    def _lerobot_python(self) -> tuple[Path, dict[str, str]]:
        folder = (self.plan.environments or self.scratch) / "lerobot"
        setup = lerobot_setup.Setup(folder.absolute(), self.plan.install_limit_s, self.plan.pip)
        try:
            return lerobot_setup.prepare(setup, self.say), lerobot_setup.environment(folder / "home")
        except PeerError as error:
            self._lerobot_failed = str(error)
            raise
