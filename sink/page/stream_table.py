"""What the page needs to know of every episode of a stream, small enough for a million of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.layout import Rows
from protocol.messages import Outcome
from protocol.shard_view import EpisodeView, ShardView

# 41 bytes an episode. producer: place among the stream's producers. version: place among the stream's versions.
ENTRY = np.dtype(
    [
        ("index", "u8"),
        ("committed_ns", "u8"),
        ("frames_bytes", "u4"),
        ("steps", "u4"),
        ("shard", "u4"),
        ("row", "u4"),
        ("producer", "u4"),
        ("version", "u4"),
        ("outcome", "u1"),
    ]
)
UNKNOWN_BYTES = 0xFFFFFFFF
# What the version of an episode is before somebody has read its attributes.
UNREAD = 0
# A hostile producer must not fill the memory with names; what comes later is counted under one name.
MOST_NAMES = 1000
OTHERS = "(others)"


class Names:
    """Different texts by number, in the order in which they came."""

    def __init__(self, *first: str) -> None:
        self.all = list(first)
        self._numbers = {name: number for number, name in enumerate(first)}

    def number(self, name: str) -> int:
        """Of a name, which is new if need be; that of OTHERS if there are too many."""
        if name not in self._numbers and len(self.all) >= MOST_NAMES:
            name = OTHERS
        if name not in self._numbers:
            self._numbers[name] = len(self.all)
            self.all.append(name)
        return self._numbers[name]


class StreamTable:
    """The committed episodes of one stream, in the order in which they were committed."""

    def __init__(self, shard: ShardView) -> None:
        self.spec = shard.spec
        self.shards: list[ShardView] = []
        self.producers = Names()
        self.versions = Names("(not read yet)")
        self._entries = np.empty(64, ENTRY)
        self._count = 0
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.read_versions = 0  # of the first so many episodes the version is known

    @property
    def entries(self) -> NDArray[np.void]:
        """ENTRY[n], a view."""
        return self._entries[: self._count]

    def __len__(self) -> int:
        return self._count

    def add(self, shard: ShardView, first: int, last: int) -> None:
        """Rows [first, last) of a shard were committed."""
        if shard not in self.shards:
            self.shards.append(shard)
        rows = shard.rows[first:last]
        while self._count + len(rows) > len(self._entries):
            self._entries = np.concatenate([self._entries, np.empty_like(self._entries)])
        made = self._entries[self._count : self._count + len(rows)]
        for name in ("index", "committed_ns", "frames_bytes", "steps", "outcome"):
            made[name] = rows[name]
        made["shard"], made["row"] = self.shards.index(shard), np.arange(first, last)
        made["producer"] = self._producers(rows)
        made["version"] = UNREAD
        self._count += len(rows)
        for outcome in Outcome:
            self.outcomes[outcome] += int((rows["outcome"] == int(outcome)).sum())

    def _producers(self, rows: Rows) -> NDArray[np.uint32]:
        names, places = np.unique(rows["producer"], return_inverse=True)
        numbers = [self.producers.number(bytes(name).decode(errors="replace")) for name in names]
        return np.array(numbers, np.uint32)[places]

    def place(self, index: int) -> int | None:
        """Where the episode with an index is; None if there is none."""
        found = np.flatnonzero(self.entries["index"] == index)
        return int(found[0]) if len(found) else None

    def episode(self, place: int) -> EpisodeView:
        """The episode at a place."""
        entry = self._entries[place]
        return self.shards[int(entry["shard"])].episode(int(entry["row"]))

    def newest(self, with_steps: bool = True) -> int | None:
        """The place of the episode that was committed last, one with steps if asked for."""
        if not with_steps:
            return self._count - 1 if self._count else None
        for place in range(self._count - 1, max(-1, self._count - 5000), -1):
            if self._entries[place]["steps"]:
                return place
        return None

    def neighbours(self, place: int) -> tuple[int | None, int | None]:
        """The indices of the episodes that were committed before and after."""
        before = int(self._entries[place - 1]["index"]) if place else None
        after = int(self._entries[place + 1]["index"]) if place + 1 < self._count else None
        return before, after

    def matching(self, wanted: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
        """Places where all conditions hold, the newest first."""
        chosen = np.ones(self._count, np.bool_)
        for condition in wanted:
            chosen &= condition
        return np.flatnonzero(chosen)[::-1]
