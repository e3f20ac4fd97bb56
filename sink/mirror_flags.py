"""The flags of a stream in its mirror: the same lines, taken over one by one, as `sink/flagging.py` adds them."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import CorruptionError, DatasetError
from protocol.flag_log import read_flags
from protocol.flags import FLAGS_NAME, Place, scan
from sink.disk import Disk
from sink.flagging import add_line, locked, ready


class FlagMirror:
    """`lines`: how many are mirrored, as of the last pull."""

    def __init__(self, disk: Disk, source: Path, mirror: Path, place: Place) -> None:
        """source, mirror: folders of the stream; both are there."""
        self._disk, self._place = disk, place
        self._source, self._mirror = source / FLAGS_NAME, mirror / FLAGS_NAME
        self._size = -1  # bytes that both were found to have
        self.lines = 0

    def pull(self) -> int:
        """Take over what was said since the last time; returns how many lines. Raises CorruptionError, DatasetError."""
        data = read_flags(self._source)
        if len(data) == self._size:
            return 0
        there = scan(data, self._place)
        if there.fault is not None:
            raise CorruptionError(f"{self._source}: {there.fault}; nothing of this stream was mirrored")
        if not data and not self._mirror.exists():
            self._size = 0
            return 0
        with locked(self._disk, self._mirror) as fd:
            here = ready(self._disk, fd, self._mirror, self._place)
            if there.records[: len(here.records)] != here.records:
                raise DatasetError(
                    f"{self._mirror}: its lines are not those of {self._source}. Flags belong in the source: say them "
                    f"there, remove {self._mirror} and run this again"
                )
            end = here.end
            for line in data[here.end : there.end].splitlines(keepends=True):
                end = add_line(self._disk, fd, line, end)
        # What is torn in the source is looked at again.
        self._size = there.end if there.end == len(data) else -1
        self.lines = len(there.records)
        return len(there.records) - len(here.records)
