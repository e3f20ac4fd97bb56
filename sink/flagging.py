"""Adding to the flags of a stream: a line at a time, durable before anyone is told, by any number of programs at once.

It takes the lock of the flag file, not that of the dataset, so a sink may be writing. Nothing that is there is changed;
only a line that a crash left unfinished is cut off.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocol.dataset_view import shard_paths
from protocol.errors import CorruptionError, DatasetError, DiskFullError, LockedError
from protocol.flag_log import read_flags
from protocol.flags import FLAGS_NAME, MAX_FLAGS_BYTES, MAX_WHO, FlagRecord, Place, Scan, What, check, encode, scan
from protocol.shard_view import ShardView
from sink.disk import Disk

# How long to wait for another writer, and how often to ask [s]. A line takes milliseconds.
_WAIT_S, _POLL_S = 10.0, 0.005


@dataclass(frozen=True)
class Word:
    """What is to be said. reason: needed to discard and to flag. who: by default user@host."""

    what: What
    indices: Sequence[int]
    reason: str = ""
    who: str = ""

    def record(self, sequence: int = 0) -> FlagRecord:
        """As a line says it. Raises ConfigurationError if it may not."""
        indices = tuple(sorted({int(index) for index in self.indices}))
        who = self.who or _user()
        return check(FlagRecord(sequence, indices, self.what, self.reason, who, time.time_ns()))


def add_flag(root: Path, stream: str, word: Word, disk: Disk | None = None) -> FlagRecord:
    """Say it of episodes of a stream; when this returns it is durable. disk: in place of the real one.

    All indices of a word are one line: all of them count, or none. Raises ConfigurationError if the word may not be
    said, DatasetError if there is no such stream or an index is not committed, CorruptionError if the flags are
    damaged, LockedError if another writer does not end, DiskFullError.
    """
    word.record()  # refused before anything is read
    place = _place(root, stream, word.indices)
    disk = disk or Disk()
    path = root / stream / FLAGS_NAME
    try:
        with locked(disk, path) as fd:
            found = ready(disk, fd, path, place)
            number = len(found.records)
            line = encode(word.record(number), place)
            add_line(disk, fd, line, found.end)
            return scan(line, place, number).records[0]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"disk full: {path} has no room for another line; nothing was said") from error
        raise DatasetError(f"cannot write {path}: {error.strerror}") from error


def ready(disk: Disk, fd: int, path: Path, place: Place) -> Scan:
    """The lines of the file, all durable, with nothing behind them. Raises CorruptionError and changes nothing then."""
    data = read_flags(path)
    found = scan(data, place)
    if found.fault is not None:
        raise CorruptionError(f"{path}: {found.fault}; nothing was added. Restore the file from a copy")
    if found.end < len(data):
        disk.cut(fd, found.end)
    # Lines, and the name, of a writer that was killed before its sync: durable before a line that comes after them.
    disk.sync(fd)
    disk.sync_directory(path.parent)
    return found


def add_line(disk: Disk, fd: int, line: bytes, end: int) -> int:
    """Append a line to a file that is ready and ends at byte `end`; returns where it ends then. Durable on return.

    Raises DatasetError if the file would be too long or cannot be synced, OSError if nothing was written.
    """
    if end + len(line) > MAX_FLAGS_BYTES:
        raise DatasetError(f"{FLAGS_NAME} is full: {end} bytes, expected at most {MAX_FLAGS_BYTES} with the new line")
    try:
        disk.write(fd, [line], end)
    except OSError:
        with suppress(OSError):  # if this fails too, it is left to the next writer
            disk.cut(fd, end)
        raise
    try:
        disk.sync(fd)
    except OSError as error:
        why = f"the line was written, but could not be made durable ({error.strerror}); a power cut may take it back"
        raise DatasetError(f"{FLAGS_NAME}: {why}. Mend the disk, and say it again") from error
    return end + len(line)


@contextmanager
def locked(disk: Disk, path: Path) -> Iterator[int]:
    """The file, open to append, and nobody else's meanwhile. Raises LockedError."""
    fd = disk.open_to_append(path)
    try:
        ends = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise LockedError(f"{path}: another program has held its lock for {_WAIT_S:g} s") from None
            time.sleep(_POLL_S)
        yield fd
    finally:
        # Closing is not enough while a child that another thread is just starting has inherited the descriptor.
        fcntl.flock(fd, fcntl.LOCK_UN)
        disk.close(fd)


def _place(root: Path, stream: str, indices: Sequence[int]) -> Place:
    """Raises DatasetError if there is no such stream, or an index of it is not committed."""
    wanted, uuid, there = np.array(sorted(set(indices)), np.uint64), "", set()
    for path in shard_paths(root):
        there.add(path.parent.relative_to(root).as_posix())
        if path.parent == root / stream and (len(wanted) or not uuid):
            with suppress(FileNotFoundError), ShardView(path) as shard:  # a sink may take away one that it prepared
                uuid = shard.layout.dataset_uuid
                wanted = np.setdiff1d(wanted, shard.rows["index"])
    if not uuid:
        listed = ", ".join(sorted(there)) or "none yet"
        raise DatasetError(f"{root} has no stream {stream!r}; the streams there are: {listed}")
    if len(wanted):
        listed = ", ".join(map(str, wanted[:5].tolist())) + (", …" if len(wanted) > 5 else "")
        raise DatasetError(
            f"{root}: {stream} has no committed index {listed}; `headrace inspect --episodes` lists those it has"
        )
    return Place(uuid, stream)


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"[:MAX_WHO]
