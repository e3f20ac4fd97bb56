"""Memory that a disk can be written from past the page cache: whole pages, used again and again."""

from __future__ import annotations

import mmap

PAGE = 4096
STAGE_BYTES = 1 << 20
# So many pieces of memory are kept for the next who needs one.
_KEPT = 8


class PagePool:
    """Pieces of STAGE_BYTES. Whoever takes one gives it back when nothing is written from it any more."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A piece; what it holds is of no meaning."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(mmap.mmap(-1, STAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def give(self, piece: memoryview) -> None:
        """Take it back."""
        if len(self._free) < _KEPT:
            self._free.append(piece)
