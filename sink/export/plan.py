"""What an export is made from: the stream's schema, and which episode gets which number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.spec import StreamSpec

# A file that is not whole yet, and a folder of parts, never have the name of a whole one.
PARTS = ".parts"


@dataclass(frozen=True)
class Entry:
    """One episode of an export.

    position: its number there, from 0 without gaps. shard, row: where it is, the shard as a path below the dataset's
    directory. outcome: `success` or `failure`. split: which of the `--split` it belongs to, if any.
    """

    position: int
    shard: str
    row: int
    index: int
    steps: int
    outcome: str
    split: str | None = None


@dataclass(frozen=True)
class Plan:
    """spec: of the stream. entries: by position. splits: the names of `--split`, in order.

    follow: more entries will come, numbered on; the ones that are here keep their numbers.
    """

    spec: StreamSpec
    entries: tuple[Entry, ...]
    splits: tuple[str, ...] = ()
    follow: bool = False

    @property
    def longest(self) -> int:
        """Steps of the longest episode."""
        return max((entry.steps for entry in self.entries), default=0)

    @property
    def steps(self) -> int:
        """Of all episodes together."""
        return sum(entry.steps for entry in self.entries)


@dataclass(frozen=True)
class Written:
    """What came of one episode.

    files: those that must be there for the episode to count as done, as paths below the export's folder.
    frames: pictures written, of all cameras. details: JSON that `finish` needs, or that the manifest should tell.
    """

    files: tuple[str, ...]
    frames: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """An episode that is written, with the sizes of its files in bytes."""

    entry: Entry
    written: Written
    sizes: dict[str, int]

    def is_there(self, folder: Path, finished: bool) -> bool:
        """Its files are in `folder` and have their sizes. finished: its parts may be gone."""
        return are_there(folder, {n: size for n, size in self.sizes.items() if not (finished and is_part(n))})


def is_part(name: str) -> bool:
    """A file, as path below the folder, is no result but a part of one."""
    return Path(name).parts[:1] == (PARTS,)


def are_there(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Files are in `folder` and have their sizes in bytes."""
    places = {folder / name: size for name, size in sizes.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in places.items())
