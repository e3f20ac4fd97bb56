"""`headrace mirror`: a copy of a dataset that grows with it, of committed episodes only, each of them checked.

For a reader on another machine, or on a file system that two machines do not see alike. The source is only read, and
a sink may be writing to it. The mirror is a dataset at every instant, also after `kill -9`; running the command again
goes on where it was.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from protocol.errors import ConfigurationError, DatasetError, DiskFullError
from sink.dataset import IDENTITY_NAME, NOT_YET
from sink.mirror_dataset import Mirror
from sink.mirror_shard import Watch
from sink.stop_signals import stop_on_signals

INTERRUPTED = 130


@dataclass(frozen=True)
class MirrorFlags:
    """Copy the committed episodes of a dataset to another directory, and check each of them on the way."""

    source: Annotated[Path, tyro.conf.Positional]
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it. It is only read."""
    dest: Annotated[Path, tyro.conf.Positional]
    """Directory of the mirror: a new one, or one that this command has made from the same dataset."""
    follow: bool = False
    """Go on until Ctrl-C, with each episode soon after its commit; wait if the source is empty."""
    poll: float = 1.0
    """With --follow: look for new episodes this often [s]."""
    jobs: int = min(4, len(os.sched_getaffinity(0)))
    """Threads that read, write and compare [threads]."""
    json: bool = False
    """Print one JSON object at the end instead of a line."""


@dataclass
class MirrorReport:
    """What one run did. rows, shards: in the mirror now, of all runs."""

    source: str
    dest: str
    new_rows: int = 0
    new_bytes: int = 0
    rows: int = 0
    shards: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def line(self) -> str:
        """For people."""
        rate = self.new_bytes / 1e6 / max(self.seconds, 1e-3)
        done = f"{self.new_rows} new episodes, {self.new_bytes / 1e6:.1f} MB in {self.seconds:.2f} s, {rate:.0f} MB/s"
        all_of_it = f"{self.dest} has {self.rows} in {self.shards} shards"
        return f"{'interrupted: ' if self.interrupted else ''}{done}; {all_of_it}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 130 if it was interrupted before the end. Raises DatasetError, ConfigurationError."""
    flags = tyro.cli(MirrorFlags, prog="headrace mirror", args=argv)
    if flags.poll <= 0 or flags.jobs < 1:
        raise ConfigurationError(f"--poll {flags.poll}, --jobs {flags.jobs}: expected more than 0 s, and at least 1")
    report = MirrorReport(str(flags.source), str(flags.dest))
    began = time.monotonic()
    try:
        with stop_on_signals() as stop, _display() as progress:
            _run(flags, report, stop, progress)
    except OSError as error:
        raise _explained(error, flags) from error
    finally:
        report.seconds = time.monotonic() - began
    sys.stdout.write((json.dumps(asdict(report), indent=2) if flags.json else report.line) + "\n")
    return INTERRUPTED if report.interrupted else 0


def _run(flags: MirrorFlags, report: MirrorReport, stop: threading.Event, progress: Progress) -> None:
    task = progress.add_task("mirror", total=0)
    total = 0

    def advance(done: int, more: int) -> None:
        nonlocal total
        total += more
        report.new_bytes += done
        progress.update(task, advance=done, total=total)

    if flags.follow:
        _wait_for_source(flags, stop)
        if stop.is_set():
            return
    with Mirror(flags.source, flags.dest, flags.jobs) as mirror:
        while True:
            try:
                report.new_rows += mirror.pull(Watch(advance, stop.is_set))
            finally:
                report.rows, report.shards = mirror.rows, mirror.shards
            if not flags.follow or stop.wait(flags.poll):
                break
    report.interrupted = stop.is_set() and not flags.follow


def _wait_for_source(flags: MirrorFlags, stop: threading.Event) -> None:
    """Until there is a dataset in an empty directory: the sink may not have been started yet."""
    said = False
    while flags.source.is_dir() and {path.name for path in flags.source.iterdir()} <= NOT_YET:
        if not said:
            sys.stderr.write(f"waiting for a sink to begin {flags.source / IDENTITY_NAME}\n")
            said = True
        if stop.wait(flags.poll):
            return


def _display() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("mirroring"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _explained(error: OSError, flags: MirrorFlags) -> DatasetError | DiskFullError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"disk full: {flags.dest} has no room for more; what it has is whole. Make room, then run this again"
        )
    place = f"{error.filename}: " if error.filename else f"{flags.source} or {flags.dest}: "
    return DatasetError(f"{place}{error.strerror}; what {flags.dest} has is whole. Run this again to go on")


if __name__ == "__main__":
    sys.exit(main())
