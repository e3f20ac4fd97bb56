"""The dataset as the page sees it: followed while it grows, one table a stream."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from protocol.dataset_view import DatasetView
from protocol.errors import DatasetError
from protocol.flag_log import FlagLog
from protocol.shard_view import EpisodeView
from sink.page.stream_table import UNREAD, StreamTable

# Nobody sees more, however many browsers ask.
_REFRESH_S = 0.5
# Of the time of this process, for the attributes of episodes that nobody has looked at.
_VERSIONS_SHARE = 0.05


class UnknownEpisodeError(DatasetError):
    """There is no such stream, episode, camera, column or step."""


class Catalogue:
    """All committed episodes. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        """Raises DatasetError if `root` cannot be read."""
        self.root = root
        self._lock = threading.RLock()
        self._refreshed = float("-inf")
        self._open()

    def _open(self) -> None:
        self.tables: dict[str, StreamTable] = {}
        self._view: DatasetView | None = DatasetView(self.root)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            if self._view is not None:
                self._view.close()
                self._view = None
            self.tables = {}

    def refresh(self) -> None:
        """Take in what was committed. Raises DatasetError if the dataset is gone or damaged; later calls try again."""
        with self._lock:
            now = time.monotonic()
            if now - self._refreshed < _REFRESH_S:
                return
            if self._view is None:
                self._open()
            assert self._view is not None
            try:
                news = self._view.refresh()
            except (DatasetError, OSError):
                # Perhaps another dataset has taken its place: nothing of the old one is to be shown.
                self.close()
                raise
            for rows in news:
                table = self.tables.setdefault(rows.shard.spec.name, StreamTable(rows.shard))
                table.add(rows.shard, rows.first, rows.last)
            self._refreshed = time.monotonic()
            self._read_versions(self._refreshed)

    def table(self, stream: str) -> StreamTable:
        """Raises UnknownEpisodeError."""
        with self._lock:
            try:
                return self.tables[stream]
            except KeyError as error:
                known = ", ".join(sorted(self.tables)) or "none yet"
                raise UnknownEpisodeError(f"there is no stream {stream!r}; there is: {known}") from error

    def episode(self, stream: str, index: int) -> EpisodeView:
        """Raises UnknownEpisodeError."""
        with self._lock:
            table = self.table(stream)
            place = table.place(index)
            if place is None:
                raise UnknownEpisodeError(f"stream {stream!r} has no episode with index {index}")
            return table.episode(place)

    def flags(self, stream: str) -> FlagLog:
        """What is said of episodes of a stream now. Raises DatasetError, also if its flags are damaged."""
        with self._lock:
            self.table(stream)
            assert self._view is not None
            return self._view.flags(stream)

    @property
    def lock(self) -> threading.RLock:
        """To be held while tables are read."""
        return self._lock

    @property
    def uuid(self) -> str:
        """Of the dataset; empty while there is no shard."""
        with self._lock:
            shards = self._view.shards.values() if self._view is not None else ()
            return next((shard.layout.dataset_uuid for shard in shards), "")

    def _read_versions(self, began: float) -> None:
        """Look into attributes for a while, the oldest first; never for a large share of the time."""
        ends = began + _VERSIONS_SHARE * _REFRESH_S
        for table in self.tables.values():
            while table.read_versions < len(table) and time.monotonic() < ends:
                read_version(table, table.read_versions)
                table.read_versions += 1


def read_version(table: StreamTable, place: int) -> None:
    """Find out the model of an episode, unless it is known."""
    entry = table.entries[place : place + 1]
    if entry["version"][0] == UNREAD:
        entry["version"] = table.versions.number(model_of(table.episode(place)))


def model_of(episode: EpisodeView) -> str:
    """Who chose the actions: a policy with its checkpoint, or the models that a search asked, with their versions."""
    try:
        return _model(episode.attributes())
    except (DatasetError, ValueError, RecursionError):
        return "(unreadable)"


def _model(attributes: dict[str, Any]) -> str:
    policy, ml = attributes.get("policy"), attributes.get("ml")
    if isinstance(ml, dict) and isinstance(versions := ml.get("versions"), dict):
        named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        return named[:120] or "no model"
    if isinstance(policy, dict):
        words = [str(policy[key]) for key in ("name", "checkpoint") if policy.get(key)]
        return " ".join(words)[:120] or "unknown"
    return "unknown"
