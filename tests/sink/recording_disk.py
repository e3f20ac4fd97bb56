"""A disk that performs what it is told and keeps a record of it, so that a test can cut the power at any moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from protocol.checksum import Buffer
from sink.disk import Disk

PAGE = 4096


@dataclass(frozen=True)
class Create:
    """A name for a new, empty file. Files are numbered; a number stays with its file when the name changes."""

    file: int
    path: Path


@dataclass(frozen=True)
class Write:
    """Bytes at an offset."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Punch:
    """A range that reads as zeros from now on."""

    file: int
    offset: int
    size: int


@dataclass(frozen=True)
class Rename:
    """Another name in the same folder."""

    file: int
    old: Path
    new: Path


@dataclass(frozen=True)
class Remove:
    """A name that is gone."""

    file: int
    path: Path


@dataclass(frozen=True)
class MakeDirectory:
    """A new folder."""

    path: Path


@dataclass(frozen=True)
class SyncFile:
    """The bytes of a file are durable."""

    file: int


@dataclass(frozen=True)
class SyncDirectory:
    """The names in a folder are durable."""

    path: Path


@dataclass(frozen=True)
class Acked:
    """These indices are committed; producers may have been told."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Sealed:
    """This shard is final; readers may have been told."""

    path: Path


NameOperation = Create | Rename | Remove | MakeDirectory
ByteOperation = Write | Punch
Operation = NameOperation | ByteOperation | SyncFile | SyncDirectory | Acked | Sealed


class KilledError(Exception):
    """The process died here."""


class UnsyncedDisk(Disk):
    """The real disk without its syncs, which cost time and which no test of files can see."""

    def sync(self, fd: int) -> None:
        """Nothing."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


class RecordingDisk(UnsyncedDisk):
    """Records what happens below `root`. Paths in `log` are relative to it; what lies there at first is durable.

    kill_at: number of operations after which the process dies: every further one raises KilledError. A write may be cut
    at a page then, as by SIGKILL. kill_at_sync: (SyncFile or SyncDirectory, n): before the n-th of those from now.
    """

    def __init__(self, root: Path, kill_at: int | None = None) -> None:
        super().__init__()
        self.root = root
        self.log: list[Operation] = []
        self.kill_at = kill_at
        self.kill_at_sync: tuple[type[Operation], int] | None = None
        self.first_files: dict[Path, bytes] = {}
        self.first_directories = {p.relative_to(root) for p in root.rglob("*") if p.is_dir()}
        self._numbers: dict[Path, int] = {}  # of the files that have a name
        self._open: dict[int, int] = {}  # descriptor → number
        self._files = 0
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            self.first_files[path.relative_to(root)] = path.read_bytes()
            self._name(path)

    def acked(self, indices: Sequence[int]) -> None:
        """Note that these were committed."""
        self.log.append(Acked(tuple(indices)))

    def die(self) -> None:
        """The process is gone and its descriptors with it; what comes now is the next one."""
        self.kill_at = self.kill_at_sync = None
        for fd in list(self._open):
            self.close(fd)

    def sealed(self, path: Path) -> None:
        """Note that this shard is final."""
        self.log.append(Sealed(path.relative_to(self.root)))

    def _name(self, path: Path) -> int:
        number = self._numbers[path] = self._files
        self._files += 1
        return number

    def _step(self) -> None:
        if self.kill_at is not None and len(self.log) >= self.kill_at:
            raise KilledError

    def _step_to_sync(self, sync: Operation) -> None:
        if self.kill_at_sync is not None and isinstance(sync, self.kill_at_sync[0]):
            kind, left = self.kill_at_sync
            self.kill_at_sync = (kind, left - 1) if left else None
            self.kill_at = self.kill_at if left else len(self.log)
        self._step()
        self.log.append(sync)

    # --- bytes ------------------------------------------------------------------------------------------------

    def open(self, path: Path, create: bool = False) -> int:
        """A file that is not known yet was written by HDF5 just now: record it as one write."""
        self._step()
        fd = super().open(path, create)
        if path not in self._numbers or create:
            self.log.append(Create(self._name(path), path.relative_to(self.root)))
            if not create:
                self.log.append(Write(self._numbers[path], 0, path.read_bytes()))
        self._open[fd] = self._numbers[path]
        return fd

    def open_direct(self, path: Path) -> int:
        """Another descriptor of a file that is known."""
        self._step()
        fd = super().open_direct(path)
        self._open[fd] = self._numbers[path]
        return fd

    def close(self, fd: int) -> None:
        """Also after the process died."""
        super().close(fd)
        del self._open[fd]

    def write_soon(self, fd: int, buffer: memoryview, offset: int) -> Future[None]:
        """At once, so that the order of the log is that of the calls; images take any order anyway."""
        self.write(fd, [buffer], offset)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Record the buffers as one write."""
        data = b"".join(buffers)
        try:
            self._step()
        except KilledError:
            if self.kill_at == len(self.log):  # the operation at which it died
                page = random.Random(offset).randrange(len(data) // PAGE + 1) * PAGE
                size = max(page - offset % PAGE, 0)
                super().write(fd, [memoryview(part)[:size] for part in buffers[:1]], offset)
                self.log.append(Write(self._open[fd], offset, bytes(memoryview(buffers[0])[:size])))
            raise
        super().write(fd, buffers, offset)
        self.log.append(Write(self._open[fd], offset, data))

    def sync(self, fd: int) -> None:
        """Record it."""
        self._step_to_sync(SyncFile(self._open[fd]))

    def reserve(self, fd: int) -> None:
        """Changes no byte and no size."""
        self._step()
        super().reserve(fd)

    def release(self, fd: int, offset: int, size: int) -> bool:
        """Record the hole."""
        self._step()
        if size > 0:
            self.log.append(Punch(self._open[fd], offset, size))
        return super().release(fd, offset, size)

    # --- names ------------------------------------------------------------------------------------------------

    def rename(self, old: Path, new: Path) -> None:
        """Record it."""
        self._step()
        super().rename(old, new)
        self._numbers[new] = self._numbers.pop(old)
        self.log.append(Rename(self._numbers[new], old.relative_to(self.root), new.relative_to(self.root)))

    def remove(self, path: Path) -> None:
        """Record it; a draft that HDF5 had just written when the process died is not known here."""
        self._step()
        super().remove(path)
        if path in self._numbers:
            self.log.append(Remove(self._numbers.pop(path), path.relative_to(self.root)))

    def make_directory(self, path: Path) -> None:
        """Record it."""
        self._step()
        super().make_directory(path)
        self.log.append(MakeDirectory(path.relative_to(self.root)))

    def sync_directory(self, path: Path) -> None:
        """Record it, if it is below the root."""
        if path.is_relative_to(self.root):
            self._step_to_sync(SyncDirectory(path.relative_to(self.root)))
