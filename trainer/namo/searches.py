"""Stored searches, read from a dataset that may still grow."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from protocol.dataset_view import DatasetView
from protocol.errors import DatasetError
from protocol.flag_log import FlagLog
from protocol.messages import Outcome
from protocol.namo.episodes import AttemptTable, attempts_of, scene_of, state_before
from protocol.namo.scene import Scene, State
from protocol.shard_view import EpisodeView
from protocol.spec import StreamSpec

# Columns by which a stream of searches is known.
_COLUMNS = {"object", "target", "achieved", "goal_open", "observations/robot", "observations/movables"}
Pose = tuple[float, float, float]
# Stream and index.
Source = tuple[str, int]


@dataclass(frozen=True)
class PlanPush:
    """One push of a stored plan: from which state, which movable (its place), where to, and where it came to lie."""

    before: State
    place: int
    target: Pose
    achieved: Pose


@dataclass(frozen=True)
class Search:
    """What a trainer needs of one search. environment: equal for searches that must not be split apart."""

    source: Source
    environment: bytes
    scene: Scene
    attempts: AttemptTable
    plan: tuple[PlanPush, ...]


@dataclass
class Seen:
    """How many searches were read. solved: with a plan of at least one push; no_scene: that could not be run;
    damaged: that could not be read, and are left out; discarded: that are left out now because of their flags."""

    searches: int = 0
    solved: int = 0
    no_scene: int = 0
    damaged: int = 0
    discarded: int = 0


class SearchReader:
    """Gives each search of some streams once, soon after its commit; not while it is discarded.

    `withdrawn`: those that were given and have been discarded since; whoever takes them out of it has seen them. One
    that is kept again is given again.
    """

    def __init__(self, root: Path, streams: Sequence[str] = (), growing: bool = False) -> None:
        """streams: by default all that hold searches; growing: what is not there may still come.

        Raises DatasetError if `root` is no directory.
        """
        self.root, self.seen, self._growing = root, Seen(), growing
        self._view, self._streams = DatasetView(root), tuple(streams)
        self._pending: deque[EpisodeView] = deque()
        self.withdrawn: set[Source] = set()
        self._left_out: set[Source] = set()  # searches that were committed, and not given or withdrawn
        self._lines: dict[str, int] = {}  # stream → lines of its flags that were looked at

    def close(self) -> None:
        """Close the files."""
        self._view.close()

    def names(self) -> list[str]:
        """The streams that are read, as far as they are there. Raises DatasetError if one cannot be read."""
        specs = {shard.spec.name: shard.spec for shard in self._view.shards.values()}
        listed = ", ".join(sorted(specs)) or "none yet"
        for name in self._streams:
            if name in specs and not holds_searches(specs[name]):
                raise DatasetError(
                    f"{self.root}: stream {name!r} holds no searches: expected columns as `headrace produce namo` "
                    f"makes them; the dataset has: {listed}"
                )
            if name not in specs and not self._growing:
                raise DatasetError(f"{self.root} has no stream {name!r}; it has: {listed}")
        found = [name for name, spec in sorted(specs.items()) if holds_searches(spec)]
        if specs and not found and not self._growing:
            raise DatasetError(
                f"{self.root} has no stream of searches (`headrace produce namo` makes them); it has: {listed}"
            )
        return [name for name in found if not self._streams or name in self._streams]

    def new_searches(self) -> Iterator[Search]:
        """Those that were not given yet; what is left of an iteration that was broken off comes with the next call.

        Raises DatasetError, as `names` does.
        """
        self._pending.extend(self._view.new_episodes())
        wanted = {name: self._view.flags(name) for name in self.names()}
        for name, flags in wanted.items():
            self._look_at(name, flags)
        while self._pending:
            episode = self._pending.popleft()
            name = episode.shard.spec.name
            if name in wanted and wanted[name].of(episode.index).discarded:
                self._left_out.add((name, episode.index))
                self.seen.discarded = len(self._left_out)
            elif name in wanted:
                search = self._read(episode)
                if search is not None:
                    yield search

    def _look_at(self, stream: str, flags: FlagLog) -> None:
        """Withdraw what was discarded since the last look, and make ready what was kept again."""
        if self._lines.get(stream, 0) == len(flags.records):
            return
        self._lines[stream] = len(flags.records)
        out = {index for name, index in self._left_out if name == stream}
        now, waiting = set(flags.discarded()), {e.index for e in self._pending if e.shard.spec.name == stream}
        changed = {index: (stream, index) for index in (now - out - waiting) | (out - now)}
        for episode in self._view.episodes(stream) if changed else ():
            source = changed.get(episode.index)
            if source in self._left_out:
                self._left_out.remove(source)
                self._pending.append(episode)
            elif source is not None:
                self._left_out.add(source)
                self.withdrawn.add(source)
        self.seen.discarded = len(self._left_out)

    def _read(self, episode: EpisodeView) -> Search | None:
        self.seen.searches += 1
        try:
            attributes = episode.attributes()
            if attributes.get("scene") is None or "attempts" not in attributes:
                self.seen.no_scene += 1
                return None
            search = read_search(episode, attributes)
        except (DatasetError, msgspec.DecodeError):
            self.seen.damaged += 1
            return None
        self.seen.solved += bool(search.plan)
        return search


def holds_searches(spec: StreamSpec) -> bool:
    """It has the columns that `headrace produce namo` makes."""
    return {column.name for column in spec.columns} >= _COLUMNS


def read_search(episode: EpisodeView, attributes: dict[str, Any]) -> Search:
    """Raises DatasetError."""
    scene = scene_of(attributes)
    plan = _plan(episode, scene) if episode.outcome is Outcome.SUCCESS else ()
    return Search((episode.shard.spec.name, episode.index), environment_of(scene), scene, attempts_of(attributes), plan)


def environment_of(scene: Scene) -> bytes:
    """Walls and movables decide it: variants with another robot or another goal are the same environment."""
    bare = msgspec.structs.replace(scene, name="", robot=(0.0, 0.0), goal=(0.0, 0.0))
    return hashlib.sha256(bare.digest().encode()).digest()


def in_validation(environment: bytes, share: float) -> bool:
    """Whether an environment belongs to the validation part: a function of these two only, whatever comes later."""
    return int.from_bytes(environment[:8], "little") < share * 2**64


def _plan(episode: EpisodeView, scene: Scene) -> tuple[PlanPush, ...]:
    places, targets, achieved = (episode.column(name) for name in ("object", "target", "achieved"))
    return tuple(
        PlanPush(state_before(episode, scene, step), int(places[step]), _pose(targets[step]), _pose(achieved[step]))
        for step in range(episode.steps)
    )


def _pose(row: Any) -> Pose:
    x, y, yaw = (float(value) for value in row)
    return x, y, yaw
