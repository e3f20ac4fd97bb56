"""What lies behind the committed rows of a table: rows that a crash left and that are erased, or damage.

A crash leaves an unsound row only by writing a part of it. Storage writes whole sectors, and what it has not written is
zero; so a torn row is zero in at least one of its sectors. A row that was written whole is zero in none, because every
row begins and ends with a field that is not 0. If such a row is unsound then its bytes were changed later, and it may
have been acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from protocol.errors import CorruptionError
from protocol.layout import Rows, ShardLayout, dataset_type, is_sound
from sink.disk import Disk

# Storage writes a sector whole or not at all [bytes]; pages and larger units are multiples of it.
SECTOR = 512

log = logging.getLogger("headrace.sink")


@dataclass(frozen=True)
class Leftover:
    """The rows of a table from row `first` on, as far as the last that is not zero. start: byte in the file."""

    layout: ShardLayout
    name: str
    first: int
    start: int
    rows: Rows

    @classmethod
    def read(cls, disk: Disk, fd: int, layout: ShardLayout, name: str, first: int) -> Leftover:
        """Read the table `name` from row `first` to its end."""
        dtype, (total,) = dataset_type(layout.spec, layout.capacity, name)
        start = layout.offsets[name] + first * dtype.itemsize
        data = disk.read(fd, (total - first) * dtype.itemsize, start)
        used = np.flatnonzero(np.frombuffer(data, np.uint64))
        count = int(used[-1]) * 8 // dtype.itemsize + 1 if len(used) else 0
        return cls(layout, name, first, start, np.frombuffer(data, dtype, count))

    def check(self, is_committed: Callable[[np.void], bool]) -> None:
        """Raise CorruptionError if row `first` had been committed. is_committed: so says a sound row behind it."""
        for number, row in enumerate(self.rows, self.first):
            if is_sound(row, number) and is_committed(row):
                raise damaged(self.layout, self._row(self.first), f"{self._row(number)} was committed after it")
        if len(self.rows) and not is_sound(self.rows[0], self.first) and not self._may_be_torn():
            raise damaged(self.layout, self._row(self.first), "it was written whole, so this is no trace of a crash")

    def erase(self, disk: Disk, fd: int) -> None:
        """Set them to zero; the caller syncs."""
        if len(self.rows):
            log.warning("%s: %s: what a crash left is erased", self.layout.path, self._row(self.first))
            disk.write(fd, [bytes(self.rows.nbytes)], self.start)

    def _row(self, number: int) -> str:
        return {"episodes": f"row {number}", "documents": f"document row {number}"}.get(self.name, f"the {self.name}")

    def _may_be_torn(self) -> bool:
        """Row `first` is zero in one of the sectors that it touches."""
        row = self.rows[0].tobytes()
        cuts = [0, *range(SECTOR - self.start % SECTOR, len(row), SECTOR), len(row)]
        return not all(row[a:b].strip(b"\0") for a, b in pairwise(cuts))


def damaged(layout: ShardLayout, what: str, but: str) -> CorruptionError:
    """The error for a row that is not what was acknowledged, and may not be taken for a crash."""
    return CorruptionError(
        f"{layout.path}: {what} is damaged, but {but}; nothing was changed. "
        "Restore the file from a copy, or move it away to go on without its episodes"
    )
