"""`headrace cancel`: end a collection on a cluster; what was acknowledged stays."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from deploy.record import Record, only_one, read_record
from deploy.slurm import client
from deploy.ssh import ending
from deploy.topology import absolute, read_topology
from protocol.errors import ConfigurationError

# Programs that were asked to stop take up to 40 s; Slurm looks now and then.
_DRAIN_LIMIT_S = 120.0
_LOOK_S = 0.5


@dataclass(frozen=True)
class CancelFlags:
    """End a collection: producers commit what is whole, then trainers and servers drain."""

    topology: Positional[Path]
    """Its topology file."""
    now: bool = False
    """At once; what was not acknowledged is lost and made again by the next submission."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns when nothing of it is left. Raises HeadraceError."""
    flags = tyro.cli(CancelFlags, prog="headrace cancel", args=argv)
    record = find_record(flags.topology)
    topology = read_topology(flags.topology)
    with only_one(absolute(topology, Path.cwd()).folder):
        if record.engine == "ssh":
            return ending.cancel(topology, record, flags.now)
        client.check_installed()
        live = {task.job for task in client.tasks_of(record.ids()) if task.live}
        if not live:
            sys.stdout.write(f"nothing of {record.name} is left in Slurm\n")
            return 0
        client.cancel([job for job in record.ids("end") if job in live])
        if flags.now:
            client.cancel(sorted(live))
            _wait(record, ("servers", "trainers", "producers"), _say)
        else:
            for kind in ("producers", "trainers", "servers"):
                _drain(record, kind, _say)
    _say(f"ended; every acknowledged episode is in {record.data}. To go on: headrace submit {flags.topology} --slurm")
    return 0


def find_record(topology: Path) -> Record:
    """The record of a topology file. Raises ConfigurationError if nothing was submitted."""
    folder = absolute(read_topology(topology), Path.cwd()).folder
    record = read_record(folder)
    if record is None:
        raise ConfigurationError(
            f"nothing of {topology} was submitted: {folder} has no record; see headrace submit --help"
        )
    return record


def _drain(record: Record, kind: str, say: Callable[[str], None]) -> None:
    """TERM to what runs; what waits for its turn need not begin."""
    ids = record.ids(kind)
    client.cancel(ids, state="PENDING")
    running = [task for task in client.tasks_of(ids) if task.live]
    if running:
        say(f"{kind}: asked {len(running)} to stop")
        client.cancel(ids, signal="TERM", state="RUNNING")
        _wait(record, (kind,), say)


def _wait(record: Record, kinds: Sequence[str], say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _DRAIN_LIMIT_S
    while True:
        left = sorted({task.job for task in client.tasks_of(record.ids(*kinds)) if _there(task)})
        if not left:
            return
        if time.monotonic() > deadline:
            say(f"job {', '.join(left)} did not stop within {_DRAIN_LIMIT_S:.0f} s and is ended")
            client.cancel(left)
            return
        time.sleep(_LOOK_S)


def _there(task: client.TaskState) -> bool:
    return task.live or task.state == "COMPLETING"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
