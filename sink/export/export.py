"""Making an export: choose, write in parallel, finish, and with --follow again and again."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import ConfigurationError, LockedError
from sink.export.choice import Choice
from sink.export.formats import Format
from sink.export.manifest import Identity, Manifest, totals
from sink.export.plan import PARTS, Plan
from sink.export.pool import Pool
from sink.export.selection import Selection
from sink.export.whole_file import remove_drafts


@dataclass(frozen=True)
class Order:
    """What is exported, to where. format_name: as in FORMATS; options: the format's flags, as JSON."""

    data: Path
    out: Path
    selection: Selection
    format: Format
    format_name: str
    options: dict[str, Any]
    follow: bool
    workers: int


@dataclass
class Report:
    """What a run did. new: episodes that it wrote; the others count all that the folder has now.

    later: rows committed after the snapshot of a complete export. discarded: episodes left out because they are.
    discarded_since: episodes that are there and were discarded after they were chosen.
    """

    out: str
    format: str
    new: int = 0
    episodes: int = 0
    steps: int = 0
    frames: int = 0
    bytes: int = 0
    complete: bool = False
    later: int = 0
    discarded: int = 0
    discarded_since: int = 0


class Export:
    """One run. `with` holds the folder's lock and ends the workers."""

    def __init__(self, order: Order, advance: Callable[[int, int], None]) -> None:
        """advance: told (steps written, steps found) as they are. Raises DatasetError, ConfigurationError."""
        self._order, self._advance = order, advance
        self._choice = Choice(order.data, order.selection, order.follow)
        self._lock = _lock(order.out)
        self._pool = Pool(order.data, order.out, order.workers)
        self._manifest: Manifest | None = None
        self.report = Report(str(order.out), order.format_name)

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.__exit__()
        if self._manifest is not None:
            remove_drafts(self._order.out)
        self._choice.close()
        os.close(self._lock)

    def run(self, stop: threading.Event) -> None:
        """Write what is selected and not there yet. Raises HeadraceError, OSError; what was written stays."""
        order, choice = self._order, self._choice
        if not choice.look():
            if not order.follow:
                raise order.selection.why_none(None, 0, 0)
            return
        manifest = self._manifest = self._manifest or self._opened()
        if order.follow or not manifest.begun:
            choice.take()
        plan = choice.plan()
        if plan is None:
            return
        order.format.check(plan)
        try:
            if not (manifest.complete and manifest.snapshot == choice.chosen.snapshot and manifest.is_whole(plan)):
                self._write(manifest, plan, stop)
        finally:
            self._tell(manifest)

    def _opened(self) -> Manifest:
        """The manifest of the folder, and what it says was chosen."""
        order, choice = self._order, self._choice
        assert choice.stream is not None
        identity = Identity(
            order.format_name,
            order.options,
            order.selection.to_json(choice.stream),
            "commit" if order.follow else "index",
            choice.shard.layout.dataset_uuid,
            choice.shard.spec,
        )
        manifest = Manifest(order.out, identity)
        if manifest.chosen is not None:
            choice.chosen = manifest.chosen
        remove_drafts(order.out)
        return manifest

    def _write(self, manifest: Manifest, plan: Plan, stop: threading.Event) -> None:
        order, chosen = self._order, self._choice.chosen
        missing = manifest.missing(plan)
        # First what is going to be done: a killed export goes on from the same snapshot.
        manifest.write(chosen, None)
        self._advance(0, sum(entry.steps for entry in missing))
        writer = order.format.begin(plan, order.out)
        for done in self._pool.write(writer, missing, stop.is_set):
            manifest.add(done)
            self.report.new += 1
            self._advance(done.entry.steps, 0)
        if manifest.is_whole(plan):
            made = writer.finish([manifest.done[entry.position] for entry in plan.entries])
            manifest.write(chosen, made or ())
            shutil.rmtree(order.out / PARTS, ignore_errors=True)

    def _tell(self, manifest: Manifest) -> None:
        report, choice = self.report, self._choice
        for name, value in totals(list(manifest.done.values())).items():
            setattr(report, name, value)
        report.complete = manifest.complete
        report.later = choice.later()
        report.discarded = len(choice.chosen.discarded)
        report.discarded_since = choice.discarded_since()


def _lock(folder: Path) -> int:
    """Hold the folder; the lock ends with the process. Raises LockedError, ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"--out {folder}: {error.strerror}; expected a folder that can be made") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise LockedError(f"another export writes to {folder}; wait for it, or choose another --out") from None
    return fd
