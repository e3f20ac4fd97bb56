"""`headrace train act`: sets up a run from its flags, trains, and says where the result is."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack

import torch
import tyro
from rich.console import Console
from rich.logging import RichHandler

from protocol.errors import ConfigurationError, DatasetError, HeadraceError
from trainer.act.flags import ActFlags
from trainer.act.logs import Logs
from trainer.act.loop import train
from trainer.act.provenance import Asked, Provenance
from trainer.act.run import Run, checkpoint_to_resume, make_average, make_model, make_optimizer
from trainer.interrupt import INTERRUPTED, interruptible
from trainer.live import Follow, Limit, LiveDataset, Loading, Order, Sample, Selection
from trainer.live.options import Part


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status. Raises HeadraceError."""
    flags = tyro.cli(ActFlags, prog="headrace train act", args=argv)
    flags.check()
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    with interruptible() as stop, ExitStack() as closing:
        try:
            run = make_run(flags, stop, console, closing)
        except DatasetError:
            if stop.is_set():  # while it waited for the first episodes
                return INTERRUPTED
            raise
        run.logs.say(f"training on {_name(run.device)}: {run.model.parameters_count} parameters")
        run.logs.say(f"{run.data.episodes} episodes with {run.data.samples} steps, from step {run.step}")
        if not run.done:
            train(run)
        return _finish(run, stop)


def make_run(flags: ActFlags, stop: threading.Event, console: Console, closing: ExitStack) -> Run:
    """What the loop needs; `closing` closes it. Raises HeadraceError."""
    device = choose_device(flags.device)
    resumed = checkpoint_to_resume(flags)
    data = closing.enter_context(_training(flags, stop, device))
    model = make_model(flags, data, resumed).to(device)
    asked = Asked(flags.stream, flags.state_columns, model.config.cameras)
    step = resumed.manifest.step if resumed is not None else 0
    run = Run(
        flags=flags,
        model=model,
        average=make_average(flags, model),
        optimizer=make_optimizer(flags, model),
        data=data,
        validation=lambda: _validation(flags),
        provenance=closing.enter_context(Provenance(flags.data, asked)),
        device=device,
        logs=closing.enter_context(Logs(flags.out, step, flags.steps, console, flags.plain)),
        stop=stop,
    )
    if resumed is not None:
        run.restore(resumed)
    return run


def choose_device(wanted: str) -> torch.device:
    """Raises ConfigurationError if it is not there."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigurationError("--device cuda: torch finds no CUDA device here; --device cpu works everywhere")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"the CPU, {torch.get_num_threads()} threads"


def _training(flags: ActFlags, stop: threading.Event, device: torch.device) -> LiveDataset:
    return LiveDataset(
        flags.data,
        _sample(flags),
        selection=_selection(flags, "training"),
        order=Order(mode="growing" if flags.follow else "frozen", seed=flags.seed, per=flags.per),
        limit=Limit(min_episodes=flags.min_episodes),
        follow=Follow(stop=stop.is_set) if flags.follow else False,
        loading=Loading(batch_size=flags.batch_size, workers=flags.workers, pin_memory=device.type == "cuda"),
    )


def _validation(flags: ActFlags) -> LiveDataset:
    """As of now, in the same order each time."""
    return LiveDataset(
        flags.data,
        _sample(flags),
        selection=_selection(flags, "validation"),
        order=Order(mode="frozen", seed=flags.seed),
        loading=Loading(batch_size=flags.batch_size),
    )


def _sample(flags: ActFlags) -> Sample:
    return Sample(
        states=flags.state_columns, cameras=flags.cameras, chunk_size=flags.chunk_size, image_size=flags.image_size
    )


def _selection(flags: ActFlags, part: Part) -> Selection:
    success = None if flags.include_failures else True
    return Selection(
        streams=flags.stream,
        success=success,
        part=part,
        validation_share=flags.validation_share,
        include_discarded=flags.include_discarded,
    )


def _finish(run: Run, stop: threading.Event) -> int:
    run.logs.say(f"loss: {run.logs.plot()}")
    if stop.is_set():
        again = "the same command with --resume goes on with the next example"
        run.logs.say(f"stopped at step {run.step}; {run.flags.out} has a checkpoint of it; {again}")
        return INTERRUPTED
    run.logs.say(f"done: step {run.step}; try it out with: headrace eval act --checkpoint {run.flags.out}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"headrace train act: {error}")
