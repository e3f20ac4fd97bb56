"""`headrace export FORMAT`: flags, display and errors, the same for all formats."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.errors import ConfigurationError, DatasetError, DiskFullError
from sink.export.export import Export, Order, Report
from sink.export.formats import FORMATS, Format, find_format
from sink.export.selection import Selection, SelectionFlags
from sink.stop_signals import stop_on_signals

INTERRUPTED = 130


@dataclass(frozen=True)
class ExportFlags:
    """From where, to where, and how. The same command goes on with an export that was interrupted or killed."""

    data: Path
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it. It is only read."""
    out: Path
    """Folder of the export: a new one, or one that the same command has begun."""
    workers: int = min(4, len(os.sched_getaffinity(0)))
    """Processes that read, decode and write [processes]."""
    follow: bool = False
    """Go on until Ctrl-C, with each episode soon after its commit; for formats that can grow."""
    poll: float = 1.0
    """With --follow: look for new episodes this often [s]."""
    json: bool = False
    """Print one JSON object at the end instead of a line."""


def run(name: str, argv: Sequence[str]) -> int:
    """Export in the format `name`, which is in FORMATS.

    Returns 0, or 130 if it was interrupted before the end. Raises HeadraceError.
    """
    flags, selection, made = _parse(name, argv)
    if flags.poll <= 0 or flags.workers < 1:
        raise ConfigurationError(f"--poll {flags.poll}, --workers {flags.workers}: expected more than 0 s, at least 1")
    if flags.follow and not made.follows:
        raise ConfigurationError(f"--follow: files of the format {name} cannot grow; export again, to another --out")
    order = Order(
        data=flags.data,
        out=flags.out,
        selection=Selection(selection),
        format=made,
        format_name=name,
        options=msgspec.to_builtins(made, enc_hook=str),
        follow=flags.follow,
        workers=flags.workers,
    )
    began = time.monotonic()
    try:
        with stop_on_signals() as stop, _display() as progress:
            report = _run(order, flags, stop, progress)
    except OSError as error:
        raise _explained(error, flags) from error
    sys.stdout.write(_said(report, flags, time.monotonic() - began) + "\n")
    return 0 if report.complete or flags.follow else INTERRUPTED


def _parse(name: str, argv: Sequence[str]) -> tuple[ExportFlags, SelectionFlags, Format]:
    """The three groups of flags. tyro shows each with its own help."""
    kind = find_format(name)
    parts = [("export", ExportFlags), ("selection", SelectionFlags), (name, kind)]
    command: Any = make_dataclass("Command", [(part, Annotated[type_, None]) for part, type_ in parts], frozen=True)
    flags = tyro.cli(
        command,
        prog=f"headrace export {name}",
        args=list(argv),
        description=kind.__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return flags.export, flags.selection, getattr(flags, name)


def _run(order: Order, flags: ExportFlags, stop: threading.Event, progress: Progress) -> Report:
    task = progress.add_task(order.format_name, total=0)
    total = 0

    def advance(done: int, more: int) -> None:
        nonlocal total
        total += more
        progress.update(task, advance=done, total=total)

    with Export(order, advance) as export:
        while True:
            export.run(stop)
            if not flags.follow or stop.wait(flags.poll):
                return export.report


def _display() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("exporting {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _said(report: Report, flags: ExportFlags, seconds: float) -> str:
    if flags.json:
        return json.dumps({**asdict(report), "seconds": seconds}, indent=2)
    has = (
        f"{report.out} has {report.episodes}: {report.steps} steps, {report.frames} frames, {report.bytes / 1e6:.1f} MB"
    )
    said = f"{report.new} episodes in {seconds:.2f} s; {has}"
    if not report.complete and not flags.follow:
        said = f"interrupted: {said}; the same command goes on"
    if report.discarded:
        said += f"; {report.discarded} discarded ones are left out"
    if report.discarded_since:
        said += f"; {report.discarded_since} were discarded since: to leave them out choose another --out"
    if report.later:
        said += f"; {report.later} rows were committed after its snapshot: for them choose another --out"
    return said


def _explained(error: OSError, flags: ExportFlags) -> DatasetError | DiskFullError:
    goes_on = "what is there is whole, and the same command goes on"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"disk full: {flags.out} has no room for more; make room: {goes_on}")
    place = error.filename or f"{flags.data} or {flags.out}"
    return DatasetError(f"{place}: {error.strerror or error}; {goes_on}")


__all__ = ["FORMATS", "run"]
