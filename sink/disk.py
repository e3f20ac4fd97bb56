"""The writer's file operations, all of them: one small interface, so that a test can record and cut them.

A file's bytes are durable after `sync` of the file, its name after `sync_directory` of its folder; neither implies the
other. The one thing that is written without this interface is the draft of a shard, by HDF5; it is opened, reserved and
synced here before it gets its name. Everything releases the interpreter's lock while it works.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from protocol.checksum import Buffer
from sink.pages import PagePool
from sink.quota import Quota

# Linux: at most 1024 buffers a call (limits.h IOV_MAX).
_IOV_MAX = 1024
# Writes that may be on their way at once.
_HANDS = 2
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Disk:
    """The real disk. quota: what the dataset may take of it; None: all that is free."""

    def __init__(self, quota: Quota | None = None) -> None:
        self.quota = quota
        self.pages = PagePool()
        self._hands: ThreadPoolExecutor | None = None

    def open(self, path: Path, create: bool = False) -> int:
        """Open a file for reading and writing at offsets; create: a new one, empty, in place of what is there."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0), 0o644)

    def open_to_append(self, path: Path) -> int:
        """Open a file, made empty if it is not there, so that each write goes to its end whatever the offset says."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, 0o644)

    def open_direct(self, path: Path) -> int:
        """Open it for writing past the page cache, where the file system can do that."""
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close it."""
        os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read at an offset."""
        return os.pread(fd, size, offset)

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write the buffers back to back at an offset; all of them, or raise OSError."""
        rest = list(buffers)
        while rest:
            try:
                done = os.pwritev(fd, rest[:_IOV_MAX], offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not _stop_direct(fd):
                    raise
                continue
            offset += done
            # Mostly nothing is left, but a signal or a network file system may cut a write short.
            rest = _after(rest, done)

    def write_soon(self, fd: int, buffer: memoryview, offset: int) -> Future[None]:
        """Begin to write; the buffer must stay as it is until that is done. Of several, any may be done first."""
        if self._hands is None:
            self._hands = ThreadPoolExecutor(_HANDS, thread_name_prefix="disk")
        return self._hands.submit(self.write, fd, [buffer], offset)

    def stop(self) -> None:
        """Wait for what was begun, and keep no threads; a new `write_soon` may follow."""
        if self._hands is not None:
            self._hands.shutdown()
            self._hands = None

    def sync(self, fd: int) -> None:
        """Make all that was written to the file durable."""
        os.fdatasync(fd)

    def cut(self, fd: int, size: int) -> None:
        """Cut a file off after `size` bytes."""
        os.ftruncate(fd, size)

    def release(self, fd: int, offset: int, size: int) -> bool:
        """Give reserved space back to the file system; the range reads as zeros. False: it cannot do that."""
        if size <= 0:
            return True
        return bool(_libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, size) == 0)

    def reserve(self, fd: int) -> None:
        """Allocate the whole of a file's size, so that no write inside it can find the disk full."""
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name in the same folder."""
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def make_directory(self, path: Path) -> None:
        """Make one directory; its parent is there."""
        path.mkdir(exist_ok=True)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _after(buffers: list[Buffer], size: int) -> list[Buffer]:
    """What is left of buffers after their first `size` bytes."""
    for place, buffer in enumerate(buffers):
        if size < len(buffer):
            return [memoryview(buffer)[size:], *buffers[place + 1 :]]
        size -= len(buffer)
    return []


def _stop_direct(fd: int) -> bool:
    """Let a file go through the page cache from now on; False: it did before. Some file systems accept O_DIRECT when a
    file is opened and refuse it when it is written."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return bool(flags & os.O_DIRECT)


def make_directories(disk: Disk, path: Path, below: Path | None = None) -> None:
    """Make a directory and those above it that are missing, and make their names durable.

    Names that were there already are synced too: a sink that was killed may have left them so. `below` is an ancestor
    whose own name is durable; without it, all names up to the mount point that this user could have written.
    """
    path = path.absolute()
    missing = [path, *path.parents]
    for directory in reversed([directory for directory in missing if not directory.is_dir()]):
        disk.make_directory(directory)
    top = below.absolute() if below else None
    while path not in (top, path.parent) and not os.path.ismount(path) and os.access(path.parent, os.R_OK | os.W_OK):
        disk.sync_directory(path.parent)
        path = path.parent
