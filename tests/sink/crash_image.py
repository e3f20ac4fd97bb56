"""What a power cut can leave of a recorded history: what was synced, and any part of what was not.

Until a file is synced, each write to it may be on the disk or not, and may be there in part: a disk writes a sector
whole or not at all, a file system a page. The same holds for names until their folder is synced, and for holes.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.sink.recording_disk import (
    Acked,
    ByteOperation,
    Create,
    MakeDirectory,
    NameOperation,
    Operation,
    Punch,
    RecordingDisk,
    Remove,
    Rename,
    Sealed,
    SyncDirectory,
    SyncFile,
    Write,
)

# What is left of the operations that were not synced.
KINDS = ("none", "all", "prefix", "subset", "torn at 512", "torn at 4096")
_SECTORS = {"torn at 512": 512, "torn at 4096": 4096}
_SHARES = (0.1, 0.5, 0.9)


@dataclass
class Names:
    """A tree of names: relative path → number of the file."""

    files: dict[Path, int] = field(default_factory=dict)
    directories: set[Path] = field(default_factory=set)

    def apply(self, operation: NameOperation) -> None:
        """Do it, as far as what it needs is there."""
        match operation:
            case Create(file, path):
                self.files[path] = file
            case Rename(file, old, new):
                if self.files.get(old) == file:
                    del self.files[old]
                self.files[new] = file
            case Remove(file, path):
                if self.files.get(path) == file:
                    del self.files[path]
            case MakeDirectory(path):
                self.directories.add(path)

    def reachable(self, path: Path) -> bool:
        """Every folder above it has its name."""
        return all(parent in self.directories for parent in path.parents if parent != Path())


@dataclass(frozen=True)
class Image:
    """The files that a power cut left."""

    files: dict[Path, bytes]
    directories: set[Path]

    def write(self, root: Path) -> None:
        """Put them below `root`, in place of what is there."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for directory in sorted(self.directories):
            (root / directory).mkdir()
        for path, data in self.files.items():
            (root / path).write_bytes(data)


class History:
    """A recorded history, replayed up to one moment.

    `acked`: the indices that had been acknowledged by then. `sealed`: the shards that were final.
    """

    def __init__(self, disk: RecordingDisk) -> None:
        self._log: list[Operation] = list(disk.log)
        self._names = Names({path: number for number, path in enumerate(disk.first_files)}, set(disk.first_directories))
        self._bytes = {number: bytearray(data) for number, data in enumerate(disk.first_files.values())}
        self._pending_names: list[tuple[int, NameOperation]] = []
        self._pending_bytes: list[tuple[int, ByteOperation]] = []
        self.moment = 0
        self.acked: set[int] = set()
        self.sealed: set[Path] = set()

    def __len__(self) -> int:
        """The number of moments: before, between and after the operations."""
        return len(self._log) + 1

    def busy_moments(self) -> list[int]:
        """Those before a sync, when most is under way; several times those before rows become durable."""
        syncs = [n for n, operation in enumerate(self._log) if isinstance(operation, SyncFile | SyncDirectory)]
        commits = [n - 1 for n, operation in enumerate(self._log) if isinstance(operation, Acked) and operation.indices]
        return [*syncs, *commits * 3]

    def go_to(self, moment: int) -> None:
        """Replay as far as after the first `moment` operations."""
        assert self.moment <= moment < len(self), (self.moment, moment)
        while self.moment < moment:
            self._replay(self._log[self.moment])
            self.moment += 1

    def _replay(self, operation: Operation) -> None:
        match operation:
            case Acked(indices):
                self.acked |= set(indices)
            case Sealed(path):
                self.sealed.add(path)
            case SyncFile(file):
                for _, done in self._pending_bytes:
                    if done.file == file:
                        _apply(self._bytes.setdefault(file, bytearray()), done)
                self._pending_bytes = [entry for entry in self._pending_bytes if entry[1].file != file]
            case SyncDirectory(path):
                for _, name in self._pending_names:
                    if _folder(name) == path:
                        self._names.apply(name)
                self._pending_names = [entry for entry in self._pending_names if _folder(entry[1]) != path]
            case Write() | Punch():
                self._pending_bytes.append((self.moment, operation))
            case _:
                self._pending_names.append((self.moment, operation))

    def image(self, kind: str, rng: random.Random) -> Image:
        """One image of this moment, of one of KINDS."""
        pending = sorted([*(place for place, _ in self._pending_names), *(place for place, _ in self._pending_bytes)])
        match kind:
            case "none":
                left = set()
            case "all":
                left = set(pending)
            case "prefix":
                left = set(pending[: rng.randint(0, len(pending))])
            case _:
                share = rng.choice(_SHARES)
                left = {place for place in pending if rng.random() < share}
        names = Names(dict(self._names.files), set(self._names.directories))
        for place, name in self._pending_names:
            if place in left:
                names.apply(name)
        contents = {number: bytearray(self._bytes.get(number, b"")) for number in names.files.values()}
        for place, done in self._pending_bytes:
            if place in left and done.file in contents:
                for part in _torn(done, _SECTORS[kind], rng) if kind in _SECTORS else (done,):
                    _apply(contents[done.file], part)
        files = {path: bytes(contents[number]) for path, number in names.files.items() if names.reachable(path)}
        return Image(files, {path for path in names.directories if names.reachable(path)})


def _folder(operation: NameOperation) -> Path:
    return operation.new.parent if isinstance(operation, Rename) else operation.path.parent


def _apply(data: bytearray, operation: ByteOperation) -> None:
    if isinstance(operation, Punch):
        end = min(operation.offset + operation.size, len(data))
        data[operation.offset : end] = bytes(max(end - operation.offset, 0))
        return
    end = operation.offset + len(operation.data)
    if operation.data and len(data) < end:
        data.extend(bytes(end - len(data)))
    data[operation.offset : end] = operation.data


def _torn(operation: ByteOperation, sector: int, rng: random.Random) -> list[ByteOperation]:
    """Any part of its sectors: some at random, or those before or after a border."""
    if isinstance(operation, Punch) or not operation.data:
        return [operation]
    start, end = operation.offset, operation.offset + len(operation.data)
    cuts = [start, *range((start // sector + 1) * sector, end, sector), end]
    sectors = list(pairwise(cuts))
    how, share, border = rng.randrange(3), rng.choice(_SHARES), rng.randint(0, len(sectors))
    if how == 0:
        left = [place for place in sectors if rng.random() < share]
    else:
        left = sectors[:border] if how == 1 else sectors[border:]
    return [Write(operation.file, a, operation.data[a - start : b - start]) for a, b in left]
