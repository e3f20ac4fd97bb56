"""Which episodes are exported: the flags that choose, and the rows of a dataset that they choose."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.dataset_view import DatasetView, NewRows
from protocol.errors import ConfigurationError, DatasetError
from protocol.messages import Outcome
from sink.export.plan import Entry
from sink.export.split import Split
from sink.export.where import Condition

_RANGE = re.compile(r"(\d*)(:?)(\d*)")


@dataclass(frozen=True)
class SelectionFlags:
    """Which episodes. Those without steps are never exported."""

    stream: str | None = None
    """Which stream; not needed if the dataset has one only."""
    success: bool = False
    """Only episodes that succeeded."""
    where: str | None = None
    """Only episodes for which this holds, e.g. 'outcome == success and steps < 300': comparisons of index, steps, seed,
    seconds, producer, outcome and attributes, with and, or, not, in."""
    episodes: str | None = None
    """Only these indices: numbers and ranges without their end, e.g. '0:100,250,300:'."""
    split: tuple[str, ...] = ()
    """Named fractions, e.g. train=0.9 valid=0.1: each index belongs to one of them, always the same one. robomimic gets
    them as masks, and every manifest names them."""
    only: str | None = None
    """Export this one of --split only."""
    include_discarded: bool = False
    """Also the episodes that `headrace flag` discarded."""


class Selection:
    """Flags that were understood. Raises ConfigurationError for those that cannot be."""

    def __init__(self, flags: SelectionFlags) -> None:
        self.flags = flags
        self.split = Split(flags.split)
        self._condition = Condition(flags.where) if flags.where is not None else None
        self._ranges = _ranges(flags.episodes) if flags.episodes is not None else None
        if flags.only is not None and flags.only not in self.split.names:
            names = ", ".join(self.split.names) or "none; add --split"
            raise ConfigurationError(f"--only {flags.only!r}: expected one of the names of --split: {names}")

    def to_json(self, stream: str) -> dict[str, Any]:
        """For the manifest: two exports with equal ones hold the same."""
        flags = self.flags
        return {
            "stream": stream,
            "success": flags.success,
            "where": flags.where,
            "episodes": flags.episodes,
            "split": dict(zip(self.split.names, self.split.fractions, strict=True)),
            "only": flags.only,
            "include_discarded": flags.include_discarded,
        }

    def entries(self, root: Path, news: NewRows) -> Iterator[Entry]:
        """The chosen ones of these rows, with position -1. Raises ConfigurationError, CorruptionError."""
        shard = news.shard
        name = str(shard.layout.path.relative_to(root))
        for row in range(news.first, news.last):
            episode = shard.episode(row)
            split = self.split.of(episode.index)
            if episode.outcome is Outcome.VOID or (self.flags.success and episode.outcome is not Outcome.SUCCESS):
                continue
            if self._ranges is not None and not any(episode.index in each for each in self._ranges):
                continue
            if self.flags.only not in (None, split):
                continue
            if self._condition is not None and not self._condition.holds(episode):
                continue
            yield Entry(-1, name, row, episode.index, episode.steps, episode.outcome.name.lower(), split)

    def check_names(self) -> None:
        """Raise ConfigurationError if --where names what no episode has."""
        if self._condition is not None:
            self._condition.check_names()

    def why_none(self, stream: str | None, looked_at: int, discarded: int) -> DatasetError:
        """The error for a stream of which nothing was chosen. looked_at: its committed rows; discarded: of those."""
        flags = self.flags
        asked = {"--success": flags.success, "--where": flags.where, "--episodes": flags.episodes, "--only": flags.only}
        used = " ".join(f"{name} {value!r}" if value is not True else name for name, value in asked.items() if value)
        where = f"stream {stream!r}" if stream is not None else "this dataset"
        if not looked_at:
            return DatasetError(f"{where}: no episode was committed yet; try again later, or use --follow")
        if discarded:
            return DatasetError(f"{where}: all {discarded} selected episodes are discarded; `headrace flag` shows why")
        why = f" by {used}" if used else ", none of which has steps"
        return DatasetError(
            f"{where}: no episode is selected of {looked_at} committed ones{why}; `headrace inspect --episodes` lists "
            "them"
        )


def choose_stream(view: DatasetView, wanted: str | None) -> str | None:
    """The stream to export; None if there is none yet. Raises ConfigurationError if none or several can be meant."""
    known = view.streams
    if wanted in known or not known:
        return wanted if wanted in known else None
    listed = ", ".join(known)
    if wanted is not None:
        near = difflib.get_close_matches(wanted, known, 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"--stream {wanted!r}: {view.root} has no such stream{hint or ';'} it has: {listed}")
    if len(known) > 1:
        raise ConfigurationError(f"{view.root} has {len(known)} streams; name one with --stream: {listed}")
    return known[0]


def _ranges(text: str) -> list[range]:
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None or not part.strip():
            raise ConfigurationError(
                f"--episodes {text!r}: {part.strip()!r} is no index and no range; expected e.g. '0:100,250,300:'"
            )
        first, colon, end = match.groups()
        start = int(first or 0)
        ranges.append(range(start, (int(end) if end else 2**62) if colon else start + 1))
    return ranges
