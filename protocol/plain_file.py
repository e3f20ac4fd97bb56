"""Reading a file that someone else may have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protocol.errors import ModelError


def read_plain(path: Path, limit: int, exactly: bool = False) -> bytes:
    """A plain file of at most (exactly) `limit` bytes: no link is followed, and a pipe is not waited for.

    Raises ModelError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelError(f"{path}: expected a plain file, cannot open it ({error.strerror})") from error
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: expected a plain file, found something else")
        if status.st_size > limit or (exactly and status.st_size != limit):
            how = "" if exactly else "at most "
            raise ModelError(f"{path}: expected {how}{limit} bytes, found {status.st_size}; publish it again")
        data = file.read(limit + 1)
    if len(data) != status.st_size:
        raise ModelError(f"{path}: changed from {status.st_size} to {len(data)} bytes while it was read")
    return data
