"""Memory that a disk can be written from past the page cache: whole pages, used again and again."""

from __future__ import annotations

import mmap

PAGE = 4096
STAGE_BYTES = 1 << 20
# So many pieces are kept, and may be in use before everyone is asked to give theirs back at once.
MANY = 8


class PagePool:
    """Pieces of STAGE_BYTES. Whoever takes one gives it back when nothing is written from it any more."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []
        self._out = 0

    @property
    def scarce(self) -> bool:
        """Many are in use: do not hold one for longer than it takes to write it."""
        return self._out >= MANY

    def take(self) -> memoryview:
        """A piece; what it holds is of no meaning."""
        self._out += 1
        if self._free:
            return self._free.pop()
        return memoryview(mmap.mmap(-1, STAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def give(self, piece: memoryview) -> None:
        """Take it back."""
        self._out -= 1
        if len(self._free) < MANY:
            self._free.append(piece)
