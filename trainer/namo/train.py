"""`headrace train object | goal`: learn from stored searches, also while they are collected, and publish weights."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import tyro
from rich.console import Console

from protocol.errors import ConfigurationError
from protocol.published import check_name
from trainer.interrupt import INTERRUPTED, interruptible
from trainer.namo.examples import AnyExample, ExampleStore, Learn
from trainer.namo.run_files import RunFiles
from trainer.namo.searches import SearchReader
from trainer.namo.tasks import GoalTask, ObjectTask, Task
from trainer.namo.teller import Teller
from trainer.namo.training import Plan, Training

_POLL_S = 1.0
Example = TypeVar("Example", bound=AnyExample)


@dataclass(frozen=True)
class TrainFlags:
    """Train a model of the NAMO planners from the searches of a dataset, and publish it for `headrace infer`."""

    data: Path
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    publish: Path | None = None
    """Directory of published models; a running `headrace infer` takes new versions at once."""
    stream: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Only these streams (give it again for more); by default all that hold searches."""
    name: str | None = None
    """Name of the published model; by default what is trained, object or goal."""
    epochs: int = 100
    """Most rounds, each a pass over the examples of at least 50 and at most 400 steps; no bound with --follow."""
    steps: int | None = None
    """Most steps; no bound by default."""
    batch_size: int = 64
    """Examples a step."""
    lr: float = 1e-3
    """Learning rate of AdamW."""
    patience: int = 20
    """Evaluations without a better validation loss after which training ends; with --follow it waits for more data."""
    seed: int = 0
    """Of weights, order, augmentation and noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes cuda if there is one."""
    threads: int | None = None
    """Threads of torch; half of the cores by default."""
    follow: bool = False
    """Go on while the dataset grows, until Ctrl-C or --steps."""
    publish_every: float = 5.0
    """With --follow: publish so often [min], if the validation loss is better than that of the published version."""
    publish_searches: int | None = None
    """With --follow: publish also after so many new searches."""
    validation_share: float = 0.15
    """Share of the environments that are not trained on. Which they are never changes while the data grow."""
    max_examples: int = 200_000
    """Examples kept in memory, about 4 kB each; the oldest leave."""
    out: Path | None = None
    """Folder for log.jsonl, loss.png and checkpoint.safetensors; by default runs/train_object or runs/train_goal."""
    resume: bool = False
    """Go on from the checkpoint in --out."""


@dataclass(frozen=True)
class TrainGoalFlags(TrainFlags):
    """Train a model of where to push movables from the searches of a dataset, and publish it for `headrace infer`."""

    learn: Learn = "beyond"
    """Where helpful pushes went, and beyond if they opened the goal; or just where they went; or were told to go."""


def train_object(argv: Sequence[str] | None = None) -> int:
    """`headrace train object`. Raises HeadraceError."""
    flags = tyro.cli(TrainFlags, prog="headrace train object", args=argv)
    return train(flags, ObjectTask())


def train_goal(argv: Sequence[str] | None = None) -> int:
    """`headrace train goal`. Raises HeadraceError."""
    flags = tyro.cli(TrainGoalFlags, prog="headrace train goal", args=argv)
    return train(flags, GoalTask(flags.learn))


def train(flags: TrainFlags, task: Task[Example]) -> int:
    """Train and publish; returns an exit status. Raises HeadraceError."""
    _check(flags)
    name = check_name(flags.name or task.kind)
    console = Console(stderr=True)
    with interruptible() as stop:
        _wait_for(flags.data, flags.follow, stop, console)
        if stop.is_set():
            return INTERRUPTED
        torch.set_num_threads(flags.threads or max(len(os.sched_getaffinity(0)) // 2, 1))
        files = RunFiles(flags.out or Path(f"runs/train_{task.kind}"), flags.resume)
        model = task.network(flags.seed).to(_device(flags.device))
        with (
            closing(SearchReader(flags.data, flags.stream, flags.follow)) as reader,
            Teller(console, name, flags.steps) as teller,
        ):
            store: ExampleStore[Example] = ExampleStore(flags.validation_share, flags.max_examples)
            training = Training(task, _plan(flags), reader, store, model, files, teller)
            if flags.resume:
                training.resume(files.load())
            try:
                training.run(name, stop, flags.publish)
            finally:
                if files.rows:
                    files.plot(f"{name}: {task.what}")
        console.print(f"log, plot and checkpoint are in {files.folder}", highlight=False, soft_wrap=True)
        return INTERRUPTED if stop.is_set() else 0


def _wait_for(data: Path, follow: bool, stop: threading.Event, console: Console) -> None:
    """Until the directory is there, if that is wanted; otherwise the reader says what is wrong."""
    if follow and not data.exists():
        console.print(f"waiting: {data} is not there yet", highlight=False, soft_wrap=True)
        while not data.exists() and not stop.is_set():
            stop.wait(_POLL_S)


def _plan(flags: TrainFlags) -> Plan:
    return Plan(
        steps=flags.steps,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        lr=flags.lr,
        seed=flags.seed,
        patience=flags.patience,
        follow=flags.follow,
        publish_s=60 * flags.publish_every,
        publish_searches=flags.publish_searches,
    )


def _check(flags: TrainFlags) -> None:
    """One sentence for the first flag that cannot be meant. Raises ConfigurationError."""
    bounds: dict[str, Any] = {name: getattr(flags, name) for name in ("epochs", "batch_size", "patience")}
    bounds |= {name: getattr(flags, name) for name in ("steps", "threads", "publish_searches") if getattr(flags, name)}
    for name, value in bounds.items():
        if value < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    if not flags.lr > 0:
        raise ConfigurationError(f"--lr {flags.lr:g}: expected more than 0")
    if flags.seed < 0:
        raise ConfigurationError(f"--seed {flags.seed}: expected 0 or more")
    if not 0 < flags.validation_share < 1:
        raise ConfigurationError(f"--validation-share {flags.validation_share:g}: expected more than 0 and less than 1")
    if flags.max_examples < 2:
        raise ConfigurationError(f"--max-examples {flags.max_examples}: expected at least 2")
    if flags.publish_every < 0:
        raise ConfigurationError(f"--publish-every {flags.publish_every:g}: expected 0 or more minutes")


def _device(device: str) -> torch.device:
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ConfigurationError(f"--device cuda: torch {torch.__version__} finds no CUDA device here; use cpu")
    return torch.device("cuda" if there and device != "cpu" else "cpu")


if __name__ == "__main__":
    sys.exit(train_object())
