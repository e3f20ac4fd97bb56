"""What a shard holds after whatever happened: its committed rows, and where the next write begins.

Rows are read up to the first that is not sound. A torn group of commits may have left sound rows behind that one; they
were never acknowledged, and they are erased, because a later commit would otherwise bring them back to life beside data
that has been overwritten. If a sound row further on belongs to a *later* group, then the unsound one had been
acknowledged: that is damage, not a crash, and the sink refuses to build on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.errors import CorruptionError
from protocol.layout import DOCUMENT, EPISODE, SEAL, Rows, ShardLayout, is_sound, read_rows
from sink.disk import Disk


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
    if is_sound(seal, 0):
        count = int(seal["episodes"])
        data = disk.read(fd, count * EPISODE.itemsize, layout.offsets["episodes"])
        return Recovered(np.frombuffer(data, EPISODE), int(seal["steps"]), int(seal["blob"]), (), True)
    rows = read_rows(fd, layout, "episodes", 0)
    _erase_after(disk, fd, layout, len(rows))
    step_tail = int((rows["first_step"] + rows["steps"]).max(initial=0))
    blob_tail = int(rows["blob_end"].max(initial=0))
    documents = [row for row in read_rows(fd, layout, "documents", 0) if row["offset"] + row["size"] <= blob_tail]
    kept = len(documents)
    disk.write(
        fd, [bytes((layout.capacity.documents - kept) * DOCUMENT.itemsize)],
        layout.offsets["documents"] + kept * DOCUMENT.itemsize,
    )
    disk.sync(fd)
    return Recovered(rows, step_tail, blob_tail, tuple(bytes(row["sha256"]).decode() for row in documents), False)


def _erase_after(disk: Disk, fd: int, layout: ShardLayout, count: int) -> None:
    start = layout.offsets["episodes"] + count * EPISODE.itemsize
    size = (layout.capacity.episodes - count) * EPISODE.itemsize
    data = disk.read(fd, size, start)
    if not np.frombuffer(data, np.uint8).any():
        return
    for place, row in enumerate(np.frombuffer(data, EPISODE), count):
        if is_sound(row, place) and int(row["group_first"]) > count:
            raise CorruptionError(
                f"{layout.path}: row {count} is damaged, but row {place} was committed after it; nothing was changed. "
                f"Restore the file from a copy, or move it away to go on without its episodes"
            )
    disk.write(fd, [bytes(size)], start)
