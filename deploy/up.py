"""`headrace up`: sink, producers, perhaps models that learn from them: one live display, Ctrl-C ends it cleanly."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from deploy.collection import LocalCollection
from deploy.display import CollectionDisplay
from deploy.topology import LocalFlags, Topology, local_topology, read_topology

INTERRUPTED = 130
_REFRESH_S = 0.5


@dataclass(frozen=True)
class UpFlags:
    """Collect on this machine: from a topology file, or from the flags."""

    topology: Annotated[Path | None, tyro.conf.Positional] = None
    """Topology file, see deploy/topology.example.toml and deploy/flywheel.example.toml; without it the flags count."""
    data: Path = Path("runs/dataset")
    """Dataset directory."""
    env: str = "PickPlaceCan"
    """robosuite task."""
    episodes: int = 20
    """Collect until this many episodes have succeeded."""
    workers: int = 2
    """Worker processes, one core each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the goals are met, or Ctrl-C. Raises HeadraceError."""
    flags = tyro.cli(UpFlags, prog="headrace up", args=argv)
    if flags.topology is not None:
        topology = read_topology(flags.topology)
    else:
        topology = local_topology(LocalFlags(flags.data, flags.env, flags.episodes, flags.workers))
    console = Console(stderr=True)
    met = collect(topology, console)
    again = f"headrace up {flags.topology}" if flags.topology else "the same command"
    if met:
        done = f"done: {topology.sink.data}; look with: headrace inspect {topology.sink.data}"
        console.print(done, highlight=False, soft_wrap=True)
        return 0
    stopped = f"stopped; every acknowledged episode is in {topology.sink.data}. To go on: {again}"
    console.print(stopped, highlight=False, soft_wrap=True)
    return INTERRUPTED


def collect(topology: Topology, console: Console) -> bool:
    """Run a topology to its end; False if the user stopped it first."""
    with interruptible() as stop, CollectionDisplay(console) as display:
        with LocalCollection(topology) as collection:
            while not collection.finished and not stop.is_set():
                collection.refresh()
                display.update(collection.status)
                stop.wait(_REFRESH_S)
            if stop.is_set():
                display.update(collection.status, "stopping: what is whole is committed first (again to end at once)")
            else:
                collection.refresh()
                display.update(collection.status)
        return not stop.is_set()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process as usual."""
    stop = threading.Event()
    before: dict[int, Callable[..., object] | int | None] = {}

    def handle(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for chosen in (signal.SIGINT, signal.SIGTERM):
        before[chosen] = signal.signal(chosen, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
