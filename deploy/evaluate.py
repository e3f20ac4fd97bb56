"""`headrace eval act`: rolls a trained policy out on held-out seeds, and says how often it succeeds.

A policy server answers, robosuite workers ask it, and a sink stores every rollout, so an evaluation is a dataset like
any other: look at it with `headrace inspect` and `headrace sheet`. The seeds are held out: they are compared with those
of all episodes that the training's dataset had, and a rollout whose seed is among them does not count.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from deploy.contact_sheet import contact_sheet
from deploy.processes import Program, ProgramError, start
from deploy.topology import Producers, SinkSettings, Topology
from deploy.up import INTERRUPTED, collect
from protocol.checkpoint import CHECKPOINTS, OpenCheckpoint, open_checkpoint
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.messages import Outcome
from protocol.success_rate import wilson_interval

SERVER_READY_S = 120.0
_READY = re.compile(r"READY: rollouts at (\S+), ")
# Of a policy without cameras, for the contact sheet.
SHEET_SIZE = (120, 160)


@dataclass(frozen=True)
class EvalFlags:
    """Roll out a trained policy in robosuite, on seeds that its data did not have."""

    checkpoint: Path
    """Directory that `headrace train act --out` wrote, or the folder of one checkpoint in it."""
    episodes: int = 50
    """Rollouts, each from another initial state."""
    seed: int = 1000
    """Base seed of the initial states. Collections use 0 if they are not told otherwise."""
    execute: int | None = None
    """Do so many actions of a predicted chunk before the next is asked for; by default temporal ensembling."""
    horizon: int = 400
    """A rollout fails after so many steps."""
    env: str | None = None
    """Task; by default that of the data."""
    workers: int = 2
    """Worker processes, one core each. One and many give the same result."""
    device: str = "cpu"
    """Where the policy runs: cpu, cuda, or auto."""
    out: Path | None = None
    """Directory for the rollouts, sheet and figures; by default `evaluations/…` in the checkpoint's directory."""
    sheet: int = 6
    """Rollouts on the contact sheet."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Write the figures to this file too; they are always in `result.json` in the directory of the rollouts."""


@dataclass(frozen=True)
class EvalResult:
    """success: share of rollouts; low, high: Wilson's 95 % interval. mean_steps: of the successes, None without any.

    seen_seeds: rollouts that were not counted, because the training data had their seed. trained_episodes: how many
    seeds of the training data they were compared with.
    """

    checkpoint: str
    task: str
    mode: str
    rollouts: int
    successes: int
    success: float
    low: float
    high: float
    mean_steps: float | None
    horizon: int
    base_seed: int
    seen_seeds: int
    trained_episodes: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] != ["act"]:
        asked = words[:1] in (["-h"], ["--help"])
        said = sys.stdout if asked else sys.stderr
        said.write("usage: headrace eval act [FLAGS]\n\nheadrace eval act --help tells its flags.\n")
        return 0 if asked else 2
    flags = tyro.cli(EvalFlags, prog="headrace eval act", args=words[1:])
    if flags.episodes < 1 or flags.workers < 1 or flags.horizon < 1:
        raise ConfigurationError("expected --episodes, --workers and --horizon of at least 1")
    return evaluate(flags, Console(stderr=True))


def evaluate(flags: EvalFlags, console: Console) -> int:
    """Roll out, report; returns the exit status. Raises HeadraceError."""
    checkpoint = open_checkpoint(flags.checkpoint)
    task = flags.env or _task(checkpoint)
    out = flags.out or _default_out(flags, checkpoint, task)
    began = time.monotonic()
    with _policy_server(flags, checkpoint, out / "logs") as endpoint:
        met = collect(Topology(_sink(out), (_producers(flags, checkpoint, task, endpoint),)), console)
    if not met:
        _say(console, f"stopped; the rollouts made so far are in {out}, and the same command goes on")
        return INTERRUPTED
    result = _result(flags, checkpoint, task, out, time.monotonic() - began)
    text = json.dumps(asdict(result), indent=1) + "\n"
    for file in (out / "result.json", flags.json_file):
        if file is not None:
            file.write_text(text)
    _say(console, _sentence(result))
    if flags.sheet:
        _say(console, f"sheet: {contact_sheet(out, out / 'sheet.png', count=flags.sheet)}")
    return 0


def _task(checkpoint: OpenCheckpoint) -> str:
    env_args = checkpoint.manifest.source.attributes.get("env_args", {})
    if not isinstance(env_args, dict) or "env_name" not in env_args:
        raise ConfigurationError(
            f"{checkpoint.folder}: its data do not name their robosuite task (attribute env_args); give --env"
        )
    return str(env_args["env_name"])


def _default_out(flags: EvalFlags, checkpoint: OpenCheckpoint, task: str) -> Path:
    """Another directory for whatever would give other rollouts."""
    folder = checkpoint.folder.parent
    mode = "ensemble" if flags.execute is None else f"execute{flags.execute}"
    name = f"{checkpoint.name}_{task}_{mode}_seed{flags.seed}_horizon{flags.horizon}_{flags.episodes}"
    return (folder.parent if folder.name == CHECKPOINTS else folder) / "evaluations" / name


def _sink(out: Path) -> SinkSettings:
    return SinkSettings(str(out), shard_mib=64)


def _producers(flags: EvalFlags, checkpoint: OpenCheckpoint, task: str, endpoint: str) -> Producers:
    source = checkpoint.manifest.source
    sizes = set(source.cameras.values())
    if len(sizes) > 1:
        raise ConfigurationError(f"expected cameras of one size, found {source.cameras}; robosuite workers draw one")
    height, width = next(iter(sizes), SHEET_SIZE)
    words: dict[str, bool | int | float | str | list[str]] = {
        "env": task,
        "end-idx": flags.episodes,
        "seed": flags.seed,
        "control-freq": round(source.rate_hz),
        "camera-names": list(source.cameras) or ["agentview"],
        "camera-height": height,
        "camera-width": width,
        "preset": str(source.attributes.get("preset", "fast")),
        "jpeg-quality": int(source.attributes.get("jpeg_quality", 90)),
        "horizon": flags.horizon,
        "keep-failures": True,
        "policy": endpoint,
        "stream": f"evaluation/{task}",
    }
    if flags.execute is not None:
        words["policy-execute"] = flags.execute
    return Producers("robosuite", flags.workers, flags=words)


@contextmanager
def _policy_server(flags: EvalFlags, checkpoint: OpenCheckpoint, logs: Path) -> Iterator[str]:
    """Runs while the body does; gives its endpoint. Raises ProgramError with its own words if it does not start."""
    words = ["--checkpoint", str(checkpoint.folder), "--bind", "tcp://127.0.0.1:0", "--device", flags.device]
    server = start("policy", words, logs, module="trainer.act.policy_server")
    try:
        yield _wait_ready(server)
    finally:
        server.stop()


def _wait_ready(server: Program) -> str:
    deadline = time.monotonic() + SERVER_READY_S
    while time.monotonic() < deadline:
        if match := _READY.search(server.log.read_text(errors="replace")):
            return match[1]
        if not server.running:
            raise ProgramError(server.last_words())
        select.select([], [], [], 0.05)
    raise ProgramError(f"the policy server was not ready within {SERVER_READY_S:.0f} s; its log is {server.log}")


def _result(flags: EvalFlags, checkpoint: OpenCheckpoint, task: str, out: Path, seconds: float) -> EvalResult:
    trained = checkpoint.seeds()
    with DatasetView(out) as view:
        rollouts = [each for each in view.new_episodes() if each.outcome is not Outcome.VOID]
        seen = np.isin([int(each.row["seed"]) for each in rollouts], trained)
        counted = [each for each, known in zip(rollouts, seen, strict=True) if not known]
        steps = [each.steps for each in counted if each.outcome is Outcome.SUCCESS]
    low, high = wilson_interval(len(steps), len(counted))
    return EvalResult(
        checkpoint=checkpoint.name,
        task=task,
        mode="temporal ensemble" if flags.execute is None else f"{flags.execute} actions of a chunk",
        rollouts=len(counted),
        successes=len(steps),
        success=len(steps) / max(len(counted), 1),
        low=low,
        high=high,
        mean_steps=sum(steps) / len(steps) if steps else None,
        horizon=flags.horizon,
        base_seed=flags.seed,
        seen_seeds=int(seen.sum()),
        trained_episodes=len(trained),
        seconds=seconds,
    )


def _sentence(result: EvalResult) -> str:
    steps = "" if result.mean_steps is None else f", {result.mean_steps:.0f} steps on average"
    held_out = f"none of their seeds is among those of the {result.trained_episodes} episodes of the training's dataset"
    if result.seen_seeds:
        held_out += f"; {result.seen_seeds} more were left out because theirs is"
    return (
        f"{result.task}, {result.mode}: {result.successes} of {result.rollouts} rollouts succeed, "
        f"{100 * result.success:.0f} % (95 % interval {100 * result.low:.0f} to {100 * result.high:.0f} %){steps}; "
        f"{held_out}"
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
