"""Appending to a blob past the page cache: bytes gather in aligned memory and leave for the disk in large pieces.

Copying every frame into the page cache costs more processor time than all else that the sink does, and pushes out of
memory what the machine needs it for. So pieces are written with O_DIRECT, which wants memory, offset and size to be
multiples of a page; `flush` fills the last page up, and the next byte begins a new one. Hence a page that holds
committed bytes is never written again, and no torn write can reach them.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from protocol.checksum import Buffer
from sink.disk import Disk

PAGE = 4096
STAGE_BYTES = 1 << 20


class Staging:
    """The end of one blob. `tail`: where the next byte goes, counted from the start of the blob."""

    def __init__(self, disk: Disk, fd: int, base: int, tail: int) -> None:
        """fd: opened with `Disk.open_direct`. base: offset of the blob in the file, a multiple of PAGE."""
        assert base % PAGE == 0, base
        self._disk, self._fd, self._base = disk, fd, base
        self._memory = memoryview(mmap.mmap(-1, STAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._start = -(-tail // PAGE) * PAGE  # in the blob, of the first byte of the memory
        self._used = 0

    @property
    def tail(self) -> int:
        """Where the next byte goes."""
        return self._start + self._used

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Copy; writes whatever fills the memory."""
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:
                part = rest[: STAGE_BYTES - self._used]
                self._memory[self._used : self._used + len(part)] = part
                self._used += len(part)
                rest = rest[len(part) :]
                if self._used == STAGE_BYTES:
                    self.flush()

    def flush(self) -> None:
        """Write everything; the next byte begins a new page."""
        if not self._used:
            return
        size = -(-self._used // PAGE) * PAGE
        self._memory[self._used : size] = bytes(size - self._used)
        self._disk.write(self._fd, [self._memory[:size]], self._base + self._start)
        self._start += size
        self._used = 0
