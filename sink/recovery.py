"""What a shard holds after whatever happened: its committed rows, and where the next write begins.

Rows are read up to the first that is not sound. A torn group of commits may have left sound rows behind that one; they
were never acknowledged, and they are erased, because a later commit would otherwise bring them back to life beside data
that has been overwritten. If a sound row further on belongs to a *later* group, then the unsound one had been
acknowledged: that is damage, not a crash, and the sink refuses to build on it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from protocol.errors import CorruptionError
from protocol.layout import SEAL, Rows, ShardLayout, dataset_type, is_sound, read_rows
from sink.disk import Disk

log = logging.getLogger("headrace.sink")


@dataclass(frozen=True)
class Recovered:
    """rows: EPISODE[n], committed. The tails: where the next row, step and blob byte go. documents: SHA-256 known."""

    rows: Rows
    step_tail: int
    blob_tail: int
    documents: tuple[str, ...]
    sealed: bool


def recover(disk: Disk, fd: int, layout: ShardLayout) -> Recovered:
    """Find the committed rows, and erase what a crash left behind them. Raises CorruptionError."""
    seal = np.frombuffer(disk.read(fd, SEAL.itemsize, layout.offsets["seal"]), SEAL)[0]
    rows = read_rows(fd, layout, "episodes", 0)
    if is_sound(seal, 0):
        if len(rows) < seal["episodes"]:
            raise _damaged(layout, f"row {len(rows)}", f"the shard was sealed with {seal['episodes']} rows")
        return Recovered(rows, int(seal["steps"]), int(seal["blob"]), (), True)
    step_tail = int((rows["first_step"] + rows["steps"]).max(initial=0))
    blob_tail = int(rows["blob_end"].max(initial=0))
    written = read_rows(fd, layout, "documents", 0)
    documents = written[written["offset"] + written["size"] <= blob_tail]
    _check_behind(disk, fd, layout, len(rows))
    _check_documents_behind(disk, fd, layout, len(documents), blob_tail)
    for name, kept in (("episodes", len(rows)), ("documents", len(documents))):
        _erase(disk, fd, layout, name, kept)
    disk.sync(fd)
    return Recovered(rows, step_tail, blob_tail, tuple(bytes(row["sha256"]).decode() for row in documents), False)


def _check_behind(disk: Disk, fd: int, layout: ShardLayout, count: int) -> None:
    """Raise CorruptionError if row `count`, which is not sound, had been committed."""
    for place, row in _rows_behind(disk, fd, layout, "episodes", count):
        if is_sound(row, place) and int(row["group_first"]) > count:
            raise _damaged(layout, f"row {count}", f"row {place} was committed after it")


def _check_documents_behind(disk: Disk, fd: int, layout: ShardLayout, count: int, blob_tail: int) -> None:
    """Raise CorruptionError if document row `count`, which is not sound, belongs to a committed episode."""
    for place, row in _rows_behind(disk, fd, layout, "documents", count):
        if is_sound(row, place) and row["offset"] + row["size"] <= blob_tail:
            raise _damaged(layout, f"document row {count}", f"document row {place} was committed after it")


def _damaged(layout: ShardLayout, what: str, but: str) -> CorruptionError:
    return CorruptionError(
        f"{layout.path}: {what} is damaged, but {but}; nothing was changed. "
        "Restore the file from a copy, or move it away to go on without its episodes"
    )


def _rows_behind(disk: Disk, fd: int, layout: ShardLayout, name: str, count: int) -> list[tuple[int, np.void]]:
    """The rows of a table from row `count` on, with their numbers; none if they are all zero."""
    dtype, (total,) = dataset_type(layout.spec, layout.capacity, name)
    data = disk.read(fd, (total - count) * dtype.itemsize, layout.offsets[name] + count * dtype.itemsize)
    if not np.frombuffer(data, np.uint8).any():
        return []
    return list(enumerate(np.frombuffer(data, dtype), count))


def _erase(disk: Disk, fd: int, layout: ShardLayout, name: str, count: int) -> None:
    """Zero what lies behind the first `count` rows of a table."""
    if _rows_behind(disk, fd, layout, name, count):
        log.warning("%s: %s: what a torn write left behind row %d is erased", layout.path, name, count)
        dtype, (total,) = dataset_type(layout.spec, layout.capacity, name)
        disk.write(fd, [bytes((total - count) * dtype.itemsize)], layout.offsets[name] + count * dtype.itemsize)
