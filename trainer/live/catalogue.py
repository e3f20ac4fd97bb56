"""Which episodes of which shards are chosen, kept up to date as they are committed.

A snapshot says how many committed rows of each shard count, and how many lines of each stream's flags, by which
episodes are discarded and kept again. Rows and lines never change and are only added, so a snapshot and the options
name a set of episodes for ever, on every machine that sees the files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.dataset_view import DatasetView, NewRows
from protocol.errors import ConfigurationError, DatasetError
from protocol.flag_log import FlagLog
from protocol.flags import FLAGS_NAME, Place
from protocol.messages import Outcome
from protocol.shard_view import EpisodeView, ShardView
from trainer.live.discards import NONE, Discards, Indices
from trainer.live.mixing import fractions, key_of, keys_of
from trainer.live.options import Sample, Selection
from trainer.live.schema import SchemaCheck

# Shard or flag file, as `root number:path below the root` → committed rows or lines that count.
Snapshot = dict[str, int]

# A chosen episode. shard: number in `Catalogue.shards`; key: names it in the order, whatever was there before.
CHOSEN = np.dtype(
    [
        ("shard", "<i4"),
        ("row", "<i8"),
        ("first_step", "<i8"),
        ("steps", "<i8"),
        ("index", "<i8"),
        ("key", "<u8"),
        ("committed_ns", "<u8"),
    ]
)
Episodes = NDArray[np.void]
NO_EPISODES: Episodes = np.empty(0, CHOSEN)
# A file system of another machine may show rows this much later [s].
_LAG_S = 60.0


@dataclass(frozen=True)
class Change:
    """From one snapshot to another: which episodes are chosen now and were not, and the other way round."""

    come: Episodes
    gone: Episodes


class Catalogue:
    """The chosen episodes of several dataset directories. `refused`: why others were not chosen, counted."""

    def __init__(self, roots: Sequence[Path], sample: Sample, selection: Selection, follow: bool) -> None:
        """Raises DatasetError if a root is no directory, unless it may still come (follow)."""
        _check_distinct(roots)
        self.roots = list(roots)
        self.check = SchemaCheck(sample)
        self.shards: list[ShardView] = []
        self._by_path: dict[Path, ShardView] = {}
        self.sources: list[tuple[Path, str]] = []
        self.source_of: list[int] = []  # shard number → number in `sources`
        self.snapshot: Snapshot = {}
        self.refused: Counter[str] = Counter()
        self._selection, self._follow = selection, follow
        self._views: dict[int, DatasetView] = {}
        self._numbers: dict[str, int] = {}  # snapshot key → shard number
        self._origins: dict[tuple[str, str, int], Path] = {}
        self._chosen: list[list[Episodes]] = []
        self._discards: list[tuple[str, Discards]] = []  # snapshot key, flags; of each source, if they count
        self._seen_streams: set[str] = set()
        try:
            self._open_roots()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        for view in self._views.values():
            view.close()
        self._views.clear()

    # --- looking ----------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """See what was committed; returns how many chosen episodes came. Microseconds if nothing did."""
        if len(self._views) < len(self.roots):
            self._open_roots()
        came = [self._take(number, rows) for number, view in self._views.items() for rows in view.refresh()]
        for key, discards in self._discards:
            if discards.refresh():
                self.snapshot = {**self.snapshot, key: discards.lines}
        return sum(len(found) - int(self._discarded(found, self.snapshot).sum()) for found in came)

    def reach(self, snapshot: Snapshot) -> None:
        """Wait until all of a snapshot is seen. Raises DatasetError if this dataset does not have it."""
        deadline = time.monotonic() + _LAG_S
        while missing := [key for key, rows in snapshot.items() if self.snapshot.get(key, 0) < rows]:
            key = missing[0]
            if time.monotonic() > deadline or not self._follow:
                found = self.snapshot.get(key, 0)
                kind, what = ("flags", "lines") if key.endswith(FLAGS_NAME) else ("shard", "committed episodes")
                raise DatasetError(f"{kind} {key}: expected {snapshot[key]} {what}, found {found}")
            time.sleep(0.05)
            self.refresh()

    def between(self, old: Snapshot, new: Snapshot) -> Change:
        """What differs from `old` to `new`, in the order of shards; what is kept again comes before new rows."""
        come, gone = [NO_EPISODES], [NO_EPISODES]
        said = self.words(old) != self.words(new)
        for key in sorted(new):
            first, last = old.get(key, 0), new[key]
            if key not in self._numbers or (first >= last and not said):
                continue
            chosen = self._chosen_of(self._numbers[key])
            begin, end = np.searchsorted(chosen["row"], (first, max(first, last)))
            if said:
                known = chosen[:begin]
                was, now = self._discarded(known, old), self._discarded(known, new)
                come.append(known[was & ~now])
                gone.append(known[now & ~was])
            fresh = chosen[begin:end]
            come.append(fresh[~self._discarded(fresh, new)])
        return Change(np.concatenate(come), np.concatenate(gone))

    def words(self, snapshot: Snapshot) -> Snapshot:
        """The part of a snapshot that says which flags count."""
        return {key: snapshot[key] for key, _ in self._discards if key in snapshot}

    def shard_at(self, path: Path) -> ShardView:
        """The open shard of a path."""
        return self._by_path[path]

    def explain(self) -> str:
        """Why there may be nothing to sample, as a sentence."""
        where = ", ".join(str(root) for root in self.roots)
        missing = [name for name in self._selection.streams if name not in self._seen_streams]
        if missing:
            there = ", ".join(sorted(self._seen_streams)) or "none yet"
            return f"{where}: no stream {missing[0]!r}; the streams there are: {there}"
        if left_out := sum(int(self._discarded(part, self.snapshot).sum()) for parts in self._chosen for part in parts):
            return f"{where}: no episode is chosen; {left_out} are discarded, as `headrace flag` shows"
        if not self.refused:
            return f"{where}: no episodes yet"
        reasons = ", ".join(f"{count} {why}" for why, count in self.refused.most_common(5))
        return f"{where}: no episode is chosen; not chosen were: {reasons}"

    # --- choosing ---------------------------------------------------------------------------------------------

    def _open_roots(self) -> None:
        for number, root in enumerate(self.roots):
            if number not in self._views and (root.is_dir() or not self._follow):
                self._views[number] = DatasetView(root)

    def _take(self, root: int, rows: NewRows) -> Episodes:
        shard = rows.shard
        self._seen_streams.add(shard.spec.name)
        if self._selection.streams and shard.spec.name not in self._selection.streams:
            return NO_EPISODES
        key = f"{root}:{shard.layout.path.relative_to(self.roots[root]).as_posix()}"
        if key not in self._numbers:
            self._admit(root, key, shard)
        number = self._numbers[key]
        found = self._choose(root, number, shard, rows)
        self._chosen[number].append(found)
        self.snapshot = {**self.snapshot, key: rows.last}
        return found

    def _admit(self, root: int, key: str, shard: ShardView) -> None:
        self.check.admit(shard.spec)
        origin = (shard.layout.dataset_uuid, shard.spec.name, shard.layout.number)
        other = self._origins.setdefault(origin, shard.layout.path)
        if other != shard.layout.path:
            raise DatasetError(f"{shard.layout.path} is a copy of {other}; its episodes would count twice")
        source = (self.roots[root], shard.spec.name)
        if source not in self.sources:
            self.sources.append(source)
            if not self._selection.include_discarded:
                log = FlagLog(self.roots[root] / shard.spec.name, Place(shard.layout.dataset_uuid, shard.spec.name))
                self._discards.append((f"{root}:{shard.spec.name}/{FLAGS_NAME}", Discards(log)))
        self._numbers[key] = len(self.shards)
        self.shards.append(shard)
        self._by_path[shard.layout.path] = shard
        self.source_of.append(self.sources.index(source))
        self._chosen.append([])

    def _choose(self, root: int, number: int, shard: ShardView, news: NewRows) -> Episodes:
        rows = shard.rows[news.first : news.last]
        stream, selection = shard.spec.name, self._selection
        wanted = rows["steps"] > 0
        self._refuse("without steps", ~wanted)
        if selection.success is not None:
            success = rows["outcome"] == int(Outcome.SUCCESS)
            self._refuse("failures" if selection.success else "successes", wanted & (success != selection.success))
            wanted &= success == selection.success
        numbers = np.arange(news.first, news.last)
        if selection.attributes or selection.where is not None:
            fits = np.array([not yes or self._fits(shard.episode(n)) for n, yes in zip(numbers, wanted, strict=True)])
            wanted &= fits
        side = self._validation(shard, rows, numbers, wanted)
        if selection.part != "all":
            other = side if selection.part == "training" else ~side
            self._refuse("for training" if selection.part == "validation" else "for validation", wanted & other)
            wanted &= ~other
        found = np.zeros(len(rows), CHOSEN)
        found["shard"], found["row"], found["key"] = number, numbers, keys_of(rows["index"], root, stream)
        for name in ("first_step", "steps", "index", "committed_ns"):
            found[name] = rows[name]
        return found[wanted]

    def _fits(self, episode: EpisodeView) -> bool:
        if self._selection.attributes:
            attributes = episode.attributes()
            for name, value in self._selection.attributes.items():
                if name not in attributes:
                    there = ", ".join(sorted(attributes)) or "none"
                    self.refused[f"without the attribute {name!r} (there are: {there})"] += 1
                    return False
                if attributes[name] != value:
                    self.refused[f"with another {name!r} than {value!r}"] += 1
                    return False
        if self._selection.where is None or self._selection.where(episode):
            return True
        self.refused["refused by `where`"] += 1
        return False

    def _validation(
        self, shard: ShardView, rows: NDArray[np.void], numbers: NDArray[np.int64], wanted: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which rows are on the validation side."""
        share, name = self._selection.validation_share, self._selection.split_by
        if name is None or not share:
            return fractions(keys_of(rows["index"], "split", shard.spec.name)) < share
        keys = np.zeros(len(rows), np.uint64)
        for place in np.flatnonzero(wanted):
            attributes = shard.episode(int(numbers[place])).attributes()
            if name not in attributes:
                there = ", ".join(sorted(attributes)) or "none"
                where = f"{shard.layout.path}: row {numbers[place]}"
                raise DatasetError(f"{where} has no attribute {name!r} to split by; there are: {there}")
            keys[place] = key_of("split", attributes[name])
        return fractions(keys) < share

    def _discarded(self, episodes: Episodes, snapshot: Snapshot) -> NDArray[np.bool_]:
        """Which of some episodes of one shard are discarded in a snapshot."""
        indices: Indices = NONE
        if len(episodes) and self._discards:
            key, discards = self._discards[self.source_of[int(episodes["shard"][0])]]
            indices = discards.after(snapshot.get(key, 0))
        found: NDArray[np.bool_] = (
            np.isin(episodes["index"], indices) if len(indices) else np.zeros(len(episodes), np.bool_)
        )
        return found

    def _chosen_of(self, number: int) -> Episodes:
        parts = self._chosen[number]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0] if parts else NO_EPISODES

    def _refuse(self, why: str, which: NDArray[np.bool_]) -> None:
        if count := int(np.count_nonzero(which)):
            self.refused[why] += count


def _check_distinct(roots: Sequence[Path]) -> None:
    if not roots:
        raise ConfigurationError("expected at least one dataset directory, found none")
    resolved = [root.resolve() for root in roots]
    for place, root in enumerate(resolved):
        for other in resolved[:place]:
            if root == other or root in other.parents or other in root.parents:
                raise ConfigurationError(f"{root} and {other}: one holds the other; episodes would count twice")
