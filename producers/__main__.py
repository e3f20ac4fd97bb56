"""`headrace produce SIMULATOR`: workers that simulate and publish to a sink."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.logging import RichHandler

from producers.display import ProducerDisplay
from producers.job import Job
from producers.link import chosen_key
from producers.robosuite import entry, graphics
from producers.robosuite.options import RobosuiteOptions
from producers.supervisor import Supervisor
from protocol.errors import ConfigurationError

SIMULATORS = ("robosuite",)
INTERRUPTED = 130


@dataclass(frozen=True)
class ProduceFlags(RobosuiteOptions):
    __doc__ = RobosuiteOptions.__doc__

    plain: bool = False
    """Print a line every 10 s, not a live display."""
    json: Path | None = None
    """Write the workers' totals to this file at the end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the goal is met, or Ctrl-C. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in SIMULATORS:
        listed = ", ".join(SIMULATORS)
        if words and words[0] in ("-h", "--help"):
            sys.stdout.write(f"usage: headrace produce SIMULATOR [FLAGS]\n\nsimulators: {listed}\n")
            return 0
        raise ConfigurationError(f"expected a simulator, one of {listed}; found {words[0] if words else 'nothing'!r}")
    flags = tyro.cli(ProduceFlags, prog="headrace produce robosuite", args=words[1:])
    _check(flags)
    console = Console(stderr=True)
    if flags.plain or not console.is_terminal:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    else:  # beside a live display only its own console may write
        handler = RichHandler(console=console, show_path=False)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    os.environ.update(graphics.environment_variables(graphics.choose_backend(flags.gl)))
    return _produce(flags, console)


def _check(flags: ProduceFlags) -> None:
    if flags.workers < 1:
        raise ConfigurationError(f"--workers {flags.workers}: expected at least 1")
    if flags.episodes is not None and flags.episodes < 1:
        raise ConfigurationError(f"--episodes {flags.episodes}: expected at least 1")
    if flags.end_idx is not None and flags.end_idx <= flags.start_idx:
        raise ConfigurationError(f"--end-idx {flags.end_idx} must be above --start-idx {flags.start_idx}")
    if not 1 <= flags.jpeg_quality <= 100:
        raise ConfigurationError(f"--jpeg-quality {flags.jpeg_quality}: expected 1 to 100")
    chosen_key(flags.key)  # a wrong file is said once, not by each worker


def _produce(flags: ProduceFlags, console: Console) -> int:
    host = socket.gethostname()
    options = RobosuiteOptions(**{name: getattr(flags, name) for name in RobosuiteOptions.__dataclass_fields__})
    jobs = [
        Job(flags.sink, f"{host}/{os.getpid()}/{number}", flags.goal, options, flags.nice)
        for number in range(flags.workers)
    ]
    supervisor = Supervisor(entry.run, jobs)
    _stop_on_signals(supervisor)
    with ProducerDisplay(supervisor, flags.stream_name, console, live=not flags.plain) as display:
        supervisor.run(display.update)
    if flags.json:
        rows = [{"name": w.job.name, "restarts": w.restarts, **asdict(w.stats)} for w in supervisor.workers]
        flags.json.write_text(json.dumps({"workers": rows}, indent=1))
    if supervisor.stopping:
        goes_on = "stopped; every acknowledged episode is stored. The same command goes on where this one stopped."
        console.print(goes_on, highlight=False, soft_wrap=True)
        return INTERRUPTED
    return 0


def _stop_on_signals(supervisor: Supervisor) -> None:
    """The first signal stops cleanly, the second at once."""

    def handle(number: int, _: object) -> None:
        if supervisor.stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        supervisor.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


if __name__ == "__main__":
    sys.exit(main())
