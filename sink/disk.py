"""The writer's file operations, all of them: one small interface, so that a test can record and cut them.

Everything releases the interpreter's lock while it works.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from protocol.checksum import Buffer
from sink.quota import Quota

# Linux: at most 1024 buffers a call (limits.h IOV_MAX).
_IOV_MAX = 1024
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Disk:
    """The real disk. quota: what the dataset may take of it; None: all that is free."""

    quota: Quota | None = None

    def __init__(self, quota: Quota | None = None) -> None:
        self.quota = quota

    def open(self, path: Path) -> int:
        """Open an existing shard for reading and writing at offsets."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

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
        for first in range(0, len(buffers), _IOV_MAX):
            batch = buffers[first : first + _IOV_MAX]
            total = sum(map(len, batch))
            done = os.pwritev(fd, batch, offset)
            if done < total:  # a signal, or a file system that writes in pieces
                rest = memoryview(b"".join(batch))[done:]
                while rest:
                    count = os.pwrite(fd, rest, offset + done)
                    done += count
                    rest = rest[count:]
            offset += total

    def sync(self, fd: int) -> None:
        """Make all that was written to the file durable."""
        os.fdatasync(fd)

    def release(self, fd: int, offset: int, size: int) -> bool:
        """Give reserved space back to the file system; the range reads as zeros. False: it cannot do that."""
        if size <= 0:
            return True
        return bool(_libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, size) == 0)


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, and make their names durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
