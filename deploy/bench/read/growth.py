"""What it costs that the dataset grows: looking for new episodes, and training while they come."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.bench.infer.servers import run_python
from deploy.bench.peers.plan import PeerError
from deploy.bench.read.turns import Turns, program, remember
from deploy.bench.sink.children import Child, children

NEWS = 1000
_LOOKS = 1000
_ROWS_STEPS = 20
_ENDLESS = 1_000_000


@dataclass
class Refresh:
    """One measurement a round. idle_us: a look at nothing, median of many. news_ms: a look at 1000 new episodes."""

    idle_us: list[float] = field(default_factory=list)
    news_ms: list[float] = field(default_factory=list)


@dataclass
class Training:
    """ratios: growing against frozen before and after it; cpu_ratios: the same by processor time of the trainer alone.

    frozen: steps/s. new_episodes: that came in each round.
    """

    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)
    frozen: list[float] = field(default_factory=list)
    new_episodes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Growth:
    """A dataset that can be made to grow. steps: of each new episode. rate: of episodes [1/s]."""

    data: Path
    frames: Path
    steps: int
    rate: float

    def writer(self) -> Child:
        """Begins to add episodes; to be killed, which costs a dataset nothing."""
        words = ["--data", str(self.data), "--frames", str(self.frames), "--steps", str(self.steps)]
        words += ["--episodes", str(_ENDLESS), "--rate", str(self.rate)]
        child = Child("sink.bench.episodes", words, self.data.with_name("writer.log"))
        os.sched_setaffinity(child.process.pid, {min(os.sched_getaffinity(0))})
        return child


def measure_refresh(data: Path, core: int, rounds: int) -> Refresh:
    """On a dataset of small episodes that has 1000 more each round. Raises PeerError, ProgramError."""
    _append(data)
    found = Refresh()
    settings = {"data": str(data), "looks": _LOOKS, "core": core}
    with Turns(program("trainer.bench.refresh"), settings, data.with_name("refresh.log")) as looker:
        for _ in range(rounds):
            found.idle_us.append(looker.take()["us"])
            _append(data)
            seen = looker.take()
            if seen["episodes"] != NEWS:
                raise PeerError(f"a look at {NEWS} new episodes found {seen['episodes']}")
            found.news_ms.append(seen["ms"])
    return found


def _append(data: Path) -> None:
    words = ["--data", str(data), "--episodes", str(NEWS), "--steps", str(_ROWS_STEPS), "--group", "10"]
    run_python("sink.bench.episodes", words)


def measure_training(growth: Growth, settings: dict[str, Any], rounds: int, say: Callable[[str], None]) -> Training:
    """Training on one core, the writer on another if there is one. Raises PeerError, ProgramError."""
    remember(growth.data)
    found, log = Training(), growth.data.with_name
    words, settings = program("trainer.bench.steps"), {**settings, "data": str(growth.data)}
    with (
        Turns(words, {**settings, "mode": "frozen"}, log("frozen.log")) as frozen,
        Turns(words, {**settings, "mode": "growing"}, log("growing.log")) as growing,
    ):
        frozen.take(), growing.take()
        for number in range(1, rounds + 1):
            before = frozen.take()
            with children() as writers:
                writers.append(growth.writer())
                writers[0].wait_ready()
                grown = growing.take()
            after = frozen.take()
            if grown["after"] <= grown["before"]:
                raise PeerError("no episode came while it was trained; take more --train-steps or a higher --rate")
            rates = [turn["samples"] / turn["seconds"] for turn in (before, grown, after)]
            found.ratios.append(2 * rates[1] / (rates[0] + rates[2]))
            found.cpu_ratios.append((before["cpu_s"] + after["cpu_s"]) / 2 / grown["cpu_s"])
            found.frozen += [rates[0], rates[2]]
            found.new_episodes.append(grown["after"] - grown["before"])
            say(f"  {number}: frozen {rates[0]:.1f} and {rates[2]:.1f}, growing {rates[1]:.1f} steps/s")
    return found
