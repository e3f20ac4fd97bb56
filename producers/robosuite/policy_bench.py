"""Measures the scripted policy: success and steps on the same seeds, with and without its adaptive features.

`headrace bench policy --env PickPlaceCan --episodes 200 --json FILE`. Physics only, one core. The two policies take
turns on each seed, so that a busy machine is busy for both. The intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from producers.robosuite import graphics, library
from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.policy import ScriptedPickPlacePolicy
from producers.robosuite.tasks import find_task
from protocol.errors import ConfigurationError
from protocol.success_rate import wilson_interval

SUCCESS_BAR, STEPS_BAR, RATIO_BAR = 0.97, 220.0, 0.5
# The seeds are split into so many blocks to show the spread of each figure.
BLOCKS = 4
# A table that goes to a file needs no terminal's width.
FILE_WIDTH = 120
INTERRUPTED = 130


@dataclass(frozen=True)
class PolicyBenchConfig:
    """Run the scripted policy with and without its adaptive features, and compare."""

    env: str = "PickPlaceCan"
    """The task: PickPlaceCan, PickPlaceMilk, PickPlaceBread, PickPlaceCereal or Lift."""
    episodes: int = 200
    """Seeds, each run once with either policy."""
    first_seed: int = 0
    """The seeds are this one and those after it."""
    control_freq: int = 50
    """Actions per simulated second [Hz]."""
    horizon: int = 1000
    """An episode ends, and fails, after so many steps."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Write the figures to this file too."""


@dataclass
class Tally:
    """What one policy did, seed by seed."""

    name: str
    successes: list[bool] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def success_rate(self, block: slice = slice(None)) -> float:
        return float(np.mean(self.successes[block]))

    def mean_steps(self, block: slice = slice(None)) -> float:
        return float(np.mean(self.steps[block]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    config = tyro.cli(PolicyBenchConfig, args=argv, prog="headrace bench policy")
    find_task(config.env)
    if config.episodes < 1:
        raise ConfigurationError(f"expected --episodes of at least 1; found {config.episodes}.")
    # robosuite imports an OpenGL platform though nothing is drawn here.
    os.environ.update(graphics.environment_variables(graphics.choose_backend(os.environ.get("MUJOCO_GL"))))
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    adaptive, plain = Tally("adaptive"), Tally("plain")
    seeds = range(config.first_seed, config.first_seed + config.episodes)
    interrupted = False
    try:
        compare(config, track(seeds, description=config.env, console=console, transient=True), adaptive, plain)
    except KeyboardInterrupt:
        interrupted = True
    measured = len(plain.steps)
    if measured:
        console.print(table(config.env, measured, adaptive, plain))
    if interrupted:
        console.print(f"interrupted after {measured} of {config.episodes} seeds")
        return INTERRUPTED
    if config.json_file is not None:
        document = {"machine": machine(), "figures": figures(adaptive, plain)}
        config.json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def compare(config: PolicyBenchConfig, seeds: Iterable[int], adaptive: Tally, plain: Tally) -> None:
    """Run both policies on each seed and enter what they did."""
    environment = RobosuiteEnvironment(
        RobosuiteConfig(
            task=config.env, control_freq_hz=config.control_freq, horizon_steps=config.horizon, camera_names=()
        )
    )
    policies = (
        (adaptive, ScriptedPickPlacePolicy(environment.geometry)),
        (plain, ScriptedPickPlacePolicy(environment.geometry, adaptive=False)),
    )
    for seed in seeds:
        for tally, policy in policies:
            started = time.perf_counter()
            success, steps = run_episode(environment, policy, seed)
            tally.seconds += time.perf_counter() - started
            tally.successes.append(success)
            tally.steps.append(steps)


def run_episode(environment: RobosuiteEnvironment, policy: ScriptedPickPlacePolicy, seed: int) -> tuple[bool, int]:
    """Success when the policy was done or the horizon reached, and the steps taken."""
    timestep = environment.reset(seed)
    policy.reset(timestep)
    steps = 0
    while not (timestep.last or policy.done(timestep)):
        timestep = environment.step(policy.act(timestep))
        steps += 1
    return timestep.success, steps


def table(task: str, measured: int, adaptive: Tally, plain: Tally) -> Table:
    """The figures of the seeds that both policies have run."""
    result = Table(title=f"{task}: steps per episode of the scripted policy, {measured} seeds")
    for heading in ("policy", "N", "success", "95 % interval", "mean", "p50", "p95", "to plain", "steps/s"):
        result.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    block = slice(measured)
    for tally in (adaptive, plain):
        low, high = wilson_interval(sum(tally.successes[block]), measured)
        result.add_row(
            tally.name,
            str(measured),
            f"{tally.success_rate(block):.1%}",
            f"{low:.1%} {high:.1%}",
            f"{tally.mean_steps(block):.1f}",
            f"{np.percentile(tally.steps[block], 50):.0f}",
            f"{np.percentile(tally.steps[block], 95):.0f}",
            f"{tally.mean_steps(block) / plain.mean_steps(block):.3f}",
            f"{sum(tally.steps) / tally.seconds:.0f}",
        )
    return result


def figures(adaptive: Tally, plain: Tally) -> list[dict[str, Any]]:
    """The figures with their bars; `runs` are those of consecutive blocks of seeds."""
    blocks = list(_blocks(len(plain.steps)))
    whole = slice(None)

    def ratio(block: slice) -> float:
        return adaptive.mean_steps(block) / plain.mean_steps(block)

    success, steps, compared = adaptive.success_rate(whole), adaptive.mean_steps(whole), ratio(whole)
    return [
        {
            "name": "policy.success",
            "value": success,
            "unit": "1",
            "bar": SUCCESS_BAR,
            "holds": success >= SUCCESS_BAR,
            "runs": [adaptive.success_rate(block) for block in blocks],
        },
        {
            "name": "policy.mean_steps",
            "value": steps,
            "unit": "steps",
            "bar": STEPS_BAR,
            "holds": steps <= STEPS_BAR,
            "runs": [adaptive.mean_steps(block) for block in blocks],
        },
        {
            "name": "policy.steps_vs_plain",
            "value": compared,
            "unit": "1",
            "bar": RATIO_BAR,
            "holds": compared <= RATIO_BAR,
            "runs": [ratio(block) for block in blocks],
        },
    ]


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **library.versions(),
    }


def _blocks(count: int) -> Iterator[slice]:
    """Consecutive slices of about equal length that cover `count` items, none of them empty."""
    edges = [count * block // BLOCKS for block in range(BLOCKS + 1)]
    for begin, end in pairwise(edges):
        if end > begin:
            yield slice(begin, end)


if __name__ == "__main__":
    raise SystemExit(main())
