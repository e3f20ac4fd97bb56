"""Making an export: choose, write in parallel, finish, and with --follow again and again."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocol.dataset_view import DatasetView, NewRows
from protocol.errors import ConfigurationError, LockedError
from protocol.shard_view import ShardView
from protocol.spec import StreamSpec
from sink.export.formats import Format
from sink.export.manifest import Identity, Manifest, totals
from sink.export.plan import PARTS, Entry, Plan
from sink.export.pool import Pool
from sink.export.selection import Selection, Snapshot, choose_stream
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
    """What a run did. new: episodes that it wrote; the others count all that the folder has now."""

    out: str
    format: str
    new: int = 0
    episodes: int = 0
    steps: int = 0
    frames: int = 0
    bytes: int = 0
    complete: bool = False
    later: int = 0
    """Episodes committed after the snapshot of a complete export."""


class Export:
    """One run. `with` holds the folder's lock and ends the workers."""

    def __init__(self, order: Order, advance: Callable[[int, int], None]) -> None:
        """advance: told (steps written, steps found) as they are. Raises ConfigurationError, LockedError."""
        self._order, self._advance = order, advance
        self._view = DatasetView(order.data)
        self._lock = _lock(order.out)
        self._pool = Pool(order.data, order.out, order.workers)
        self.report = Report(str(order.out), order.format_name)
        self._stream: str | None = None
        self._manifest: Manifest | None = None
        self._spec: StreamSpec | None = None
        self._entries: list[Entry] = []
        self._rows: Snapshot = {}

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.__exit__()
        self._view.close()
        os.close(self._lock)

    def run(self, stop: threading.Event) -> None:
        """Write what is selected and not there yet. Raises HeadraceError, OSError; what was written stays."""
        news = self._news()
        if self._stream is None:
            if self._order.follow:
                return
            raise self._order.selection.why_none(self._order.selection.flags.stream or "any", 0)
        manifest = self._opened()
        if manifest.complete and not self._order.follow:
            self._say_complete(manifest, news)
            return
        plan = self._planned(manifest, news)
        if plan is None:
            return
        self._order.format.check(plan)
        self._write(manifest, plan, stop)

    def _news(self) -> list[NewRows]:
        """New rows of the stream, in the order of commits."""
        news = self._view.refresh()
        if self._stream is None:
            self._stream = choose_stream(self._view, self._order.selection.flags.stream)
        return [rows for rows in news if rows.shard.spec.name == self._stream]

    def _opened(self) -> Manifest:
        """The manifest of the folder; read once."""
        if self._manifest is None:
            assert self._stream is not None
            shards = [shard for shard in self._view.shards.values() if shard.spec.name == self._stream]
            self._spec = shards[0].spec
            order = self._order
            identity = Identity(
                order.format_name,
                order.options,
                order.selection.to_json(self._stream),
                "commit" if order.follow else "index",
                shards[0].layout.dataset_uuid,
                self._spec,
            )
            self._manifest = Manifest(order.out, identity)
            self._entries = list(self._manifest.entries)
            self._rows = dict(self._manifest.snapshot["shards"]) if self._manifest.snapshot else {}
            remove_drafts(order.out)
        return self._manifest

    def _planned(self, manifest: Manifest, news: list[NewRows]) -> Plan | None:
        """The plan with what is new in it; None if nothing was ever selected with --follow. Raises DatasetError."""
        order = self._order
        if manifest.snapshot is None or order.follow:
            chosen = [entry for rows in news for entry in self._chosen(rows)]
            order.selection.check_names()
            if not order.follow:
                chosen.sort(key=lambda entry: entry.index)
            first = len(self._entries)
            self._entries += [replace(entry, position=first + n) for n, entry in enumerate(chosen)]
        assert self._spec is not None
        assert self._stream is not None
        if self._entries:
            return Plan(self._spec, tuple(self._entries), order.selection.split.names, order.follow)
        if order.follow:
            return None
        raise order.selection.why_none(self._stream, sum(self._rows.values()))

    def _chosen(self, rows: NewRows) -> Iterator[Entry]:
        """The selected ones of new rows that no earlier run has looked at."""
        name = self._name(rows.shard)
        first = max(rows.first, self._rows.get(name, 0))
        if first < rows.last:
            self._rows[name] = rows.last
            yield from self._order.selection.entries(self._order.data, replace(rows, first=first))

    def _write(self, manifest: Manifest, plan: Plan, stop: threading.Event) -> None:
        order = self._order
        snapshot = {"shards": dict(sorted(self._rows.items()))}
        missing = [entry for entry in plan.entries if entry.position not in manifest.done]
        if not missing and manifest.complete and manifest.snapshot == snapshot:
            self._tell(manifest)
            return
        # First what is going to be done: a killed export goes on from the same snapshot.
        manifest.write(snapshot, plan.entries, complete=False)
        self._advance(0, sum(entry.steps for entry in missing))
        writer = order.format.begin(plan, order.out)
        try:
            for done in self._pool.write(writer, missing, stop.is_set):
                manifest.add(done)
                self.report.new += 1
                self._advance(done.entry.steps, 0)
            if len(manifest.done) == len(plan.entries):
                writer.finish([manifest.done[entry.position] for entry in plan.entries])
                manifest.write(snapshot, plan.entries, complete=True)
                shutil.rmtree(order.out / PARTS, ignore_errors=True)
        finally:
            self._tell(manifest)

    def _tell(self, manifest: Manifest) -> None:
        for name, value in totals(list(manifest.done.values())).items():
            setattr(self.report, name, value)
        self.report.complete = manifest.complete

    def _say_complete(self, manifest: Manifest, news: list[NewRows]) -> None:
        assert manifest.snapshot is not None
        rows = {self._name(each.shard): each.last for each in news}
        self.report.later = sum(rows.values()) - sum(manifest.snapshot["shards"].values())
        self._tell(manifest)

    def _name(self, shard: ShardView) -> str:
        return str(shard.layout.path.relative_to(self._order.data))


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
