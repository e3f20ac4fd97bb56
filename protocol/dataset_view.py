"""Reading a whole dataset directory while it grows: every stream, every shard, new episodes as they are committed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from protocol.errors import DatasetError
from protocol.layout import SHARD_PATTERN
from protocol.shard_view import EpisodeView, ShardView


def shard_paths(root: Path) -> list[Path]:
    """The shards below a dataset directory, by stream and number."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no directory; expected a dataset directory, as given to `headrace sink --data`")
    return sorted(path for path in root.rglob("*.h5") if re.fullmatch(SHARD_PATTERN, path.name) and path.is_file())


class DatasetView:
    """A dataset directory, read-only. Costs the writer nothing."""

    def __init__(self, root: Path | str) -> None:
        """Raises DatasetError if `root` is no directory."""
        self.root = Path(root)
        self.shards: dict[Path, ShardView] = {}
        self._seen: dict[Path, int] = {}
        self._find_shards()

    def __enter__(self) -> DatasetView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all shards."""
        for shard in self.shards.values():
            shard.close()
        self.shards.clear()

    @property
    def streams(self) -> list[str]:
        """The names of the streams found so far."""
        return sorted({shard.spec.name for shard in self.shards.values()})

    def new_episodes(self) -> Iterator[EpisodeView]:
        """The episodes committed since the last call, each exactly once; the first call gives all there are."""
        self._find_shards()
        for path, shard in self.shards.items():
            seen = self._seen.get(path, 0)
            if seen == len(shard):
                shard.refresh()
            self._seen[path] = len(shard)
            for number in range(seen, len(shard)):
                yield shard.episode(number)

    def episodes(self, stream: str | None = None) -> Iterator[EpisodeView]:
        """All committed episodes seen so far, of one stream or of all."""
        for shard in self.shards.values():
            if stream is None or shard.spec.name == stream:
                for number in range(len(shard)):
                    yield shard.episode(number)

    def _find_shards(self) -> None:
        for path in shard_paths(self.root):
            known = self.shards.get(path)
            # A sink that stops removes a shard that it had prepared and not used; a new one may take its name.
            if known is not None and (len(known) or known.is_at_its_path()):
                continue
            if known is not None:
                self.shards.pop(path).close()
            with suppress(FileNotFoundError):
                self.shards[path] = ShardView(path)
