"""Reading a whole dataset directory while it grows: every stream, every shard, new episodes as they are committed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import DatasetError
from protocol.flag_log import FlagLog
from protocol.flags import Place
from protocol.folder_watch import FolderWatch
from protocol.layout import SHARD_PATTERN
from protocol.shard_view import EpisodeView, ShardView


def shard_paths(root: Path) -> list[Path]:
    """The shards below a dataset directory, by stream and number."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no directory; expected a dataset directory, as given to `headrace sink --data`")
    return sorted(path for path in root.rglob("*.h5") if re.fullmatch(SHARD_PATTERN, path.name) and path.is_file())


@dataclass(frozen=True)
class NewRows:
    """Rows [first, last) of a shard, committed since someone looked before."""

    shard: ShardView
    first: int
    last: int


class DatasetView:
    """A dataset directory, read-only. Costs the writer nothing."""

    def __init__(self, root: Path | str) -> None:
        """Raises DatasetError if `root` is no directory, or a shard in it is damaged."""
        self.root = Path(root)
        self.shards: dict[Path, ShardView] = {}
        self._seen: dict[Path, int] = {}
        self._growing: dict[Path, ShardView] = {}
        self._flags: dict[str, FlagLog] = {}
        self._packed: dict[Path, int] = {}  # path → inode of the packed shard that took the place of the open one
        self._watch = FolderWatch(self.root, ".h5")
        try:
            self._find_shards()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DatasetView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all shards."""
        for shard in self.shards.values():
            shard.close()
        self.shards.clear()
        self._growing.clear()

    @property
    def streams(self) -> list[str]:
        """The names of the streams found so far."""
        return sorted({shard.spec.name for shard in self.shards.values()})

    def refresh(self) -> list[NewRows]:
        """What was committed since the last call, each row exactly once; the first call gives all there is.

        Some microseconds a folder and a growing shard if nothing came; no row is looked at twice. Raises DatasetError
        if the directory, or a shard with episodes, is gone.
        """
        self._find_shards()
        news: list[NewRows] = []
        for path, shard in list(self._growing.items()):
            # In this order: rows that were committed before the seal are seen after it.
            final = shard.sealed
            shard.refresh()
            seen, count = self._seen.get(path, 0), len(shard)
            if count > seen:
                self._seen[path] = count
                news.append(NewRows(shard, seen, count))
            if final:
                del self._growing[path]
        return news

    def new_episodes(self) -> Iterator[EpisodeView]:
        """The episodes committed since the last call, each exactly once; the first call gives all there are."""
        for rows in self.refresh():
            for number in range(rows.first, rows.last):
                yield rows.shard.episode(number)

    def episodes(self, stream: str | None = None) -> Iterator[EpisodeView]:
        """All committed episodes seen so far, of one stream or of all."""
        for shard in self.shards.values():
            if stream is None or shard.spec.name == stream:
                for number in range(len(shard)):
                    yield shard.episode(number)

    def kept_episodes(self, stream: str) -> Iterator[EpisodeView]:
        """The committed episodes of a stream seen so far, without those that are discarded now. Raises DatasetError."""
        flags = self.flags(stream)
        return (episode for episode in self.episodes(stream) if not flags.of(episode.index).discarded)

    def flags(self, stream: str) -> FlagLog:
        """What is said about episodes of a stream, as of now. Some microseconds if nothing came.

        Raises DatasetError if no shard of the stream was seen yet, or its flags are damaged.
        """
        log = self._flags.get(stream)
        if log is None:
            shard = next((shard for shard in self.shards.values() if shard.spec.name == stream), None)
            if shard is None:
                there = ", ".join(self.streams) or "none yet"
                raise DatasetError(f"{self.root} has no stream {stream!r}; the streams there are: {there}")
            log = self._flags[stream] = FlagLog(self.root / stream, Place(shard.layout.dataset_uuid, stream))
        log.refresh()
        return log

    def _find_shards(self) -> None:
        if not self._watch.changed():
            return
        paths = [path for path in self._watch.files() if re.fullmatch(SHARD_PATTERN, path.name)]
        # A sink that stops removes a shard that it had prepared and not used; a new one may take its name.
        for path, shard in list(self.shards.items()):
            if shard.is_at_its_path():
                continue
            if (shard.refresh() or len(shard)) and self._was_packed(path, shard):
                continue
            if len(shard):
                raise DatasetError(f"{path} was removed or replaced, with {len(shard)} committed episodes; put it back")
            self.shards.pop(path).close()
            self._growing.pop(path, None)
        for path in paths:
            if path not in self.shards:
                with suppress(FileNotFoundError):
                    self.shards[path] = self._growing[path] = ShardView(path)
        order = {path: self.shards[path] for path in sorted(self.shards)}
        self.shards, self._growing = order, {path: shard for path, shard in order.items() if path in self._growing}

    def _was_packed(self, path: Path, shard: ShardView) -> bool:
        """`headrace pack --replace` was here: the shard that is open has the same episodes, so it stays."""
        inode = path.stat().st_ino if path.exists() else None
        if inode is None or (self._packed.get(path) != inode and not shard.is_packed_at_its_path()):
            return False
        self._packed[path] = inode
        return True
