"""The numbers of one stream, gathered shard by shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.flags import Standing, Standings
from protocol.interval_set import IntervalSet
from protocol.messages import Outcome
from protocol.shard_view import ShardView
from protocol.spec import StreamSpec
from protocol.success_rate import wilson_interval

_UNKNOWN_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class ShardSummary:
    """fill: share of the fullest of its capacities, 0 to 1. disk_bytes: what the file takes on the disk.

    packing: codec of the video in place of JPEG; None: not packed.
    """

    path: Path
    episodes: int
    fill: float
    sealed: bool
    disk_bytes: int
    packing: str | None = None


@dataclass
class StreamSummary:
    """One stream. flags: what was said of its episodes, to be there before a shard is added.

    stored_bytes: JPEG or video, columns and attributes of its episodes; raw_bytes: columns, and frames as pixels.
    """

    spec: StreamSpec
    keep_rows: bool = False
    outcomes: dict[str, int] = field(default_factory=lambda: {outcome.name.lower(): 0 for outcome in Outcome})
    steps: int = 0
    stored_bytes: int = 0
    first_commit_ns: int | None = None
    last_commit_ns: int | None = None
    shards: list[ShardSummary] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    flags: Standings = field(default_factory=Standings)
    _indices: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, shard: ShardView) -> None:
        """Count what a shard holds."""
        rows = shard.rows
        self._indices.append(rows["index"].astype(np.int64))
        for outcome in Outcome:
            self.outcomes[outcome.name.lower()] += int((rows["outcome"] == int(outcome)).sum())
        steps = int(rows["steps"].sum(dtype=np.int64))
        self.steps += steps
        frames_bytes = rows["frames_bytes"][rows["frames_bytes"] != _UNKNOWN_BYTES].sum(dtype=np.int64)
        self.stored_bytes += int(frames_bytes + rows["attributes_size"].sum(dtype=np.int64))
        self.stored_bytes += steps * self.spec.row_bytes
        if len(rows):
            first, last = int(rows["committed_ns"].min()), int(rows["committed_ns"].max())
            self.first_commit_ns = min(first, self.first_commit_ns or first)
            self.last_commit_ns = max(last, self.last_commit_ns or last)
        self.shards.append(_summarise_shard(shard))
        if self.keep_rows:
            described = [_describe_row(shard, number) for number in range(len(rows))]
            self.rows += [{**row, **_said(self.flags.of(row["index"]))} for row in described]

    @property
    def episodes(self) -> int:
        """Committed indices, those recorded as failed included."""
        return sum(self.outcomes.values())

    @property
    def discarded(self) -> int:
        """Of the episodes, those that training and exports leave out."""
        return len(self.flags.discarded())

    @property
    def flagged(self) -> int:
        """Of the episodes, those that somebody should look at."""
        return len(self.flags.flagged())

    @property
    def frames(self) -> int:
        """Of all cameras."""
        return self.steps * len(self.spec.cameras)

    @property
    def raw_bytes(self) -> int:
        """What the steps would take with decoded frames."""
        return self.steps * self.spec.raw_step_bytes

    @property
    def success_rate(self) -> float | None:
        """Successes of all committed indices; None without any."""
        return self.outcomes["success"] / self.episodes if self.episodes else None

    @property
    def index_range(self) -> tuple[int, int] | None:
        """The smallest and the largest index."""
        parts = [part for part in self._indices if len(part)]
        return (int(min(p.min() for p in parts)), int(max(p.max() for p in parts))) if parts else None

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Ranges of indices, both ends included, between the smallest and the largest that are not there."""
        if not self._indices:
            return []
        intervals = IntervalSet.from_array(np.concatenate(self._indices)).intervals()
        return [(before[1], after[0] - 1) for before, after in pairwise(intervals)]

    @property
    def episodes_per_hour(self) -> float | None:
        """Between the first and the last commit."""
        if not self.first_commit_ns or not self.last_commit_ns or self.last_commit_ns == self.first_commit_ns:
            return None
        return (self.episodes - 1) / (self.last_commit_ns - self.first_commit_ns) * 3.6e12

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = wilson_interval(self.outcomes["success"], self.episodes)
        return {
            "name": self.spec.name,
            "spec": msgspec.to_builtins(self.spec),
            "episodes": self.episodes,
            "outcomes": self.outcomes,
            "discarded": self.discarded,
            "flagged": self.flagged,
            "success_rate": self.success_rate,
            "success_rate_95": [low, high],
            "steps": self.steps,
            "frames": self.frames,
            "stored_bytes": self.stored_bytes,
            "raw_bytes": self.raw_bytes,
            "compression": self.raw_bytes / self.stored_bytes if self.stored_bytes else None,
            "index_range": self.index_range,
            "missing": self.missing,
            "first_commit_ns": self.first_commit_ns,
            "last_commit_ns": self.last_commit_ns,
            "episodes_per_hour": self.episodes_per_hour,
            "shards": [{**asdict(shard), "path": str(shard.path)} for shard in self.shards],
            **({"rows": self.rows} if self.keep_rows else {}),
        }


def _summarise_shard(shard: ShardView) -> ShardSummary:
    rows, capacity = shard.rows, shard.layout.capacity
    fill = max(
        int(rows["blob_end"].max(initial=0)) / capacity.blob_bytes,
        int((rows["first_step"] + rows["steps"]).max(initial=0)) / capacity.steps,
        len(rows) / capacity.episodes,
    )
    blocks = shard.layout.path.stat().st_blocks
    packing = shard.packing.codec if shard.packing else None
    return ShardSummary(shard.layout.path, len(rows), fill, shard.sealed, blocks * 512, packing)


def _describe_row(shard: ShardView, number: int) -> dict[str, Any]:
    episode, row = shard.episode(number), shard.rows[number]
    return {
        "index": episode.index,
        "outcome": episode.outcome.name.lower(),
        "steps": episode.steps,
        "seed": int(row["seed"]),
        "frames_bytes": int(row["frames_bytes"]),
        "seconds": (int(row["ended_ns"]) - int(row["began_ns"])) / 1e9,
        "committed_ns": int(row["committed_ns"]),
        "producer": episode.producer,
        "shard": shard.layout.number,
        "row": number,
    }


def _said(standing: Standing) -> dict[str, str | None]:
    """The reasons why an episode is discarded and flagged; None: it is not."""
    return {name: said.reason if (said := getattr(standing, name)) else None for name in ("discarded", "flagged")}
