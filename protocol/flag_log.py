"""Reading the flags of a stream while others add to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protocol.errors import CorruptionError, DatasetError
from protocol.flags import FLAGS_NAME, MAX_FLAGS_BYTES, FlagRecord, Place, Standings, scan


class FlagLog(Standings):
    """The flags of one stream. `records`: all lines seen so far; nothing is read before the first `refresh`."""

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__()
        self.path = folder / FLAGS_NAME
        self.place = place
        self.records: list[FlagRecord] = []
        self._name = str(self.path)
        self._end = 0  # bytes of the lines seen

    def refresh(self) -> int:
        """Look for new lines; returns how many there are. One `stat` if none came.

        Raises CorruptionError if a line is damaged, DatasetError if the file or lines of it are gone.
        """
        try:
            status = os.stat(self._name)
        except FileNotFoundError:
            if self._end:
                raise self._gone("was removed") from None
            return 0
        if status.st_size == self._end:
            return 0
        if status.st_size < self._end:
            raise self._gone(f"was cut off to {status.st_size} bytes")
        found = scan(read_flags(self.path, self._end), self.place, len(self.records), self._end)
        if found.fault is not None:
            raise CorruptionError(
                f"{self.path}: {found.fault}; what is discarded cannot be told. Restore the file from a copy"
            )
        self.records += found.records
        self._end += found.end
        self.apply(found.records)
        return len(found.records)

    def _gone(self, how: str) -> DatasetError:
        return DatasetError(f"{self.path} {how}, with {len(self.records)} flags that were seen; put it back")


def read_flags(path: Path, offset: int = 0) -> bytes:
    """The bytes of a flag file from `offset` on; none if there is no file. Raises CorruptionError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CorruptionError(f"{path}: expected a plain file, cannot open it ({error.strerror})") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FLAGS_BYTES:
            what = f"expected a plain file of at most {MAX_FLAGS_BYTES} bytes"
            raise CorruptionError(f"{path}: {what}; found {status.st_size} bytes, or something else")
        return os.pread(fd, max(status.st_size - offset, 0), offset)
    finally:
        os.close(fd)
