"""Appending to a blob past the page cache: bytes gather in aligned memory and leave for the disk in large pieces.

Copying every frame into the page cache costs more processor time than all else that the sink does, and pushes out of
memory what the machine needs it for. So pieces are written with O_DIRECT, which wants memory, offset and size to be
multiples of a page; `flush` fills the last page up, and the next byte begins a new one. Hence a page that holds
committed bytes is never written again, and no torn write can reach them. While one piece is on its way to the disk the
next one is filled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from protocol.checksum import Buffer
from sink.disk import Disk
from sink.pages import PAGE, STAGE_BYTES

# More than this many pieces on their way make the writer wait.
_UNDER_WAY = 2


class Staging:
    """The end of one blob. `tail`: where the next byte goes, counted from the start of the blob."""

    def __init__(self, disk: Disk, fd: int, base: int, tail: int) -> None:
        """fd: opened with `Disk.open_direct`. base: offset of the blob in the file, a multiple of PAGE."""
        assert base % PAGE == 0, base
        self._disk, self._fd, self._base = disk, fd, base
        self._memory: memoryview | None = None
        self._start = -(-tail // PAGE) * PAGE  # in the blob, of the first byte of the memory
        self._used = 0
        self._under_way: deque[tuple[Future[None], memoryview]] = deque()

    @property
    def tail(self) -> int:
        """Where the next byte goes."""
        return self._start + self._used

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Copy; whatever fills a piece of memory begins to be written. Raises what an earlier write raised."""
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:
                if self._memory is None:
                    self._memory = self._disk.pages.take()
                part = rest[: STAGE_BYTES - self._used]
                self._memory[self._used : self._used + len(part)] = part
                self._used += len(part)
                rest = rest[len(part) :]
                if self._used == STAGE_BYTES:
                    self._write()
        if self._disk.pages.scarce:
            self.flush()

    def flush(self) -> None:
        """Write everything and wait for it; the next byte begins a new page. Raises what a write raised."""
        self._write()
        self._wait(0)

    def close(self) -> None:
        """Wait for what is on its way: the file may be closed then. What was not flushed is dropped."""
        while self._under_way:
            writing, memory = self._under_way.popleft()
            writing.exception()
            self._disk.pages.give(memory)
        if self._memory is not None:
            self._disk.pages.give(self._memory)
            self._memory = None

    def _write(self) -> None:
        if self._memory is None or not self._used:
            return
        size = -(-self._used // PAGE) * PAGE
        self._memory[self._used : size] = bytes(size - self._used)
        writing = self._disk.write_soon(self._fd, self._memory[:size], self._base + self._start)
        self._under_way.append((writing, self._memory))
        self._memory = None
        self._start += size
        self._used = 0
        self._wait(0 if self._disk.pages.scarce else _UNDER_WAY)

    def _wait(self, most: int) -> None:
        """Until at most so many pieces are on their way."""
        while len(self._under_way) > most:
            writing, memory = self._under_way[0]
            writing.result()
            self._under_way.popleft()
            self._disk.pages.give(memory)
