"""The episodes of an export, numbered, as a dataset grows: what earlier runs chose, and what is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protocol.dataset_view import DatasetView, NewRows
from protocol.shard_view import ShardView
from sink.export.plan import Entry, Plan
from sink.export.selection import Selection, choose_stream


@dataclass
class Chosen:
    """What a manifest keeps of a choice.

    rows: shard, as a path below the dataset's directory → committed rows that were looked at. flags: lines of the
    stream's flags that counted. entries: by position. discarded: selected, but left out because of the flags; their
    position is -1.
    """

    rows: dict[str, int] = field(default_factory=dict)
    flags: int = 0
    entries: list[Entry] = field(default_factory=list)
    discarded: list[Entry] = field(default_factory=list)

    @property
    def snapshot(self) -> dict[str, Any]:
        """For the manifest: rows never change and are only added, so this names a set of episodes for ever."""
        return {"shards": dict(sorted(self.rows.items())), "flags": self.flags}

    @classmethod
    def read(cls, snapshot: Mapping[str, Any], entries: Sequence[Entry], discarded: Sequence[Entry]) -> Chosen:
        """From a manifest."""
        return cls(dict(snapshot["shards"]), int(snapshot["flags"]), list(entries), list(discarded))


class Choice:
    """A dataset as an export sees it. `with` closes it."""

    def __init__(self, root: Path, selection: Selection, follow: bool) -> None:
        """Raises DatasetError if `root` is no dataset directory."""
        self._root, self._selection, self._follow = root, selection, follow
        self._view = DatasetView(root)
        self._news: list[NewRows] = []
        self.stream: str | None = None
        self.chosen = Chosen()

    def close(self) -> None:
        """Close the shards."""
        self._view.close()

    def look(self) -> bool:
        """Look for what was committed; False while there is no stream yet. Raises HeadraceError."""
        news = self._view.refresh()
        if self.stream is None:
            self.stream = choose_stream(self._view, self._selection.flags.stream)
        self._news += [rows for rows in news if rows.shard.spec.name == self.stream]
        return self.stream is not None

    @property
    def shard(self) -> ShardView:
        """Any shard of the stream, for what all of them have."""
        return next(shard for shard in self._view.shards.values() if shard.spec.name == self.stream)

    def take(self) -> None:
        """Choose among the rows that no run has looked at, and among those that were discarded and are not any more.

        Positions go on from those that are there, by index, or with --follow in the order of coming.
        """
        assert self.stream is not None
        flags, include = self._view.flags(self.stream), self._selection.flags.include_discarded
        found = [*self.chosen.discarded, *(entry for rows in self._news for entry in self._selected(rows))]
        self._news.clear()
        self._selection.check_names()
        self.chosen.flags = len(flags.records)
        self.chosen.discarded = [] if include else [entry for entry in found if flags.of(entry.index).discarded]
        kept = [entry for entry in found if include or not flags.of(entry.index).discarded]
        if not self._follow:
            kept.sort(key=lambda entry: entry.index)
        first = len(self.chosen.entries)
        self.chosen.entries += [replace(entry, position=first + number) for number, entry in enumerate(kept)]

    def plan(self) -> Plan | None:
        """What is to be written; None if nothing was selected yet, with --follow. Raises DatasetError without."""
        if self.chosen.entries:
            return Plan(self.shard.spec, tuple(self.chosen.entries), self._selection.split.names, self._follow)
        if self._follow:
            return None
        raise self._selection.why_none(self.stream, sum(self.chosen.rows.values()), len(self.chosen.discarded))

    def later(self) -> int:
        """Committed rows that the choice has not looked at."""
        return sum(max(rows.last - self.chosen.rows.get(self._name(rows.shard), 0), 0) for rows in self._news)

    def discarded_since(self) -> int:
        """Entries that are discarded now and should not be there."""
        if self.stream is None or self._selection.flags.include_discarded:
            return 0
        flags = self._view.flags(self.stream)
        return sum(flags.of(entry.index).discarded is not None for entry in self.chosen.entries)

    def _selected(self, rows: NewRows) -> Iterator[Entry]:
        name = self._name(rows.shard)
        first = max(rows.first, self.chosen.rows.get(name, 0))
        if first < rows.last:
            self.chosen.rows[name] = rows.last
            yield from self._selection.entries(self._root, replace(rows, first=first))

    def _name(self, shard: ShardView) -> str:
        return shard.layout.path.relative_to(self._root).as_posix()
