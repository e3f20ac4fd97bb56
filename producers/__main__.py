"""`headrace produce SIMULATOR`: workers that simulate and publish to a sink."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import tyro
from rich.console import Console
from rich.logging import RichHandler

from producers.address import Address
from producers.display import ProducerDisplay
from producers.job import Job
from producers.link import NAME_VARIABLE, chosen_key
from producers.simulators import SIMULATORS, Simulator
from producers.supervisor import Supervisor
from protocol.errors import ConfigurationError
from protocol.messages import PROTOCOL_VERSION

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the goal is met, or Ctrl-C. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in SIMULATORS:
        listed = ", ".join(SIMULATORS)
        if words and words[0] in ("-h", "--help"):
            sys.stdout.write(f"usage: headrace produce SIMULATOR [FLAGS]\n\nsimulators: {listed}\n")
            return 0
        raise ConfigurationError(f"expected a simulator, one of {listed}; found {words[0] if words else 'nothing'!r}")
    simulator = SIMULATORS[words[0]]
    flags = tyro.cli(simulator.flags, prog=f"headrace produce {words[0]}", args=words[1:])
    simulator.check(flags)
    # A wrong key, or a server that is not announced, is said once, not by each worker.
    sink = Address(flags.sink, "sink", PROTOCOL_VERSION, chosen_key(flags.key), flags.wait_s)
    servers = (sink, *simulator.models(flags))
    console = Console(stderr=True)
    if flags.plain or not console.is_terminal:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    else:  # beside a live display only its own console may write
        handler = RichHandler(console=console, show_path=False)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    for server in servers:
        server.wait()
    simulator.prepare(flags)
    return _produce(simulator, flags, console)


def _produce(simulator: Simulator, flags: Any, console: Console) -> int:
    host, options, goal = socket.gethostname(), simulator.options_of(flags), simulator.goal(flags)
    name = os.environ.get(NAME_VARIABLE) or f"{host}/{os.getpid()}"
    jobs = [Job(flags.sink, f"{name}/{number}", goal, options, flags.nice) for number in range(flags.workers)]
    supervisor = Supervisor(simulator.entry, jobs)
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
