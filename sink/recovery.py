"""What a shard holds after whatever happened: its committed rows, and where the next write begins.

Rows are read up to the first that is not sound. A torn group of commits may have left sound rows behind that one; they
were never acknowledged, and they are erased, because a later commit would otherwise bring them back to life beside data
that has been overwritten. If a sound row further on belongs to a *later* group, or if the unsound row is not one that a
crash can leave (`leftover.py`), then it had been acknowledged: that is damage, and the sink refuses to build on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from protocol.layout import Rows, ShardLayout, read_rows, read_seal, read_sealed_rows
from protocol.messages import Outcome
from sink.disk import Disk
from sink.leftover import Leftover, damaged


@dataclass(frozen=True)
class Recovered:
    """indices: int64[n] of the committed rows; succeeded: bool[n]. The tails: where the next step and blob byte go.

    rows_digest: of the committed rows, to go on with. documents: SHA-256 known.
    """

    indices: NDArray[np.int64]
    succeeded: NDArray[np.bool_]
    step_tail: int
    blob_tail: int
    rows_digest: xxhash.xxh3_64
    documents: tuple[str, ...]
    sealed: bool


def recover(disk: Disk, fd: int, layout: ShardLayout) -> Recovered:
    """Find the committed rows, and erase what a crash left behind them. Raises CorruptionError."""
    seal = read_seal(fd, layout)
    if seal is not None:
        rows = _sealed_rows(fd, layout, seal)
        return _recovered(rows, int(seal["steps"]), int(seal["blob"]), (), sealed=True)
    rows = read_rows(fd, layout, "episodes", 0)
    step_tail = int((rows["first_step"] + rows["steps"]).max(initial=0))
    blob_tail = int(rows["blob_end"].max(initial=0))
    written = read_rows(fd, layout, "documents", 0)
    # One that ends beyond the tail is of an episode that was not committed; its bytes will be overwritten.
    documents = written[written["offset"] + written["size"] <= blob_tail]
    _erase_leftovers(disk, fd, layout, (len(rows), len(documents)), blob_tail)
    names = tuple(bytes(row["sha256"]).decode() for row in documents)
    return _recovered(rows, step_tail, blob_tail, names, sealed=False)


def _recovered(rows: Rows, steps: int, blob: int, documents: tuple[str, ...], sealed: bool) -> Recovered:
    digest = xxhash.xxh3_64(b"" if sealed else rows.tobytes())  # a sealed shard needs no other seal
    succeeded = rows["outcome"] == int(Outcome.SUCCESS)
    return Recovered(rows["index"].astype(np.int64), succeeded, steps, blob, digest, documents, sealed)


def _sealed_rows(fd: int, layout: ShardLayout, seal: np.void) -> Rows:
    rows = read_sealed_rows(fd, layout, seal)
    if rows is not None:
        return rows
    sound, sealed = len(read_rows(fd, layout, "episodes", 0)), int(seal["episodes"])
    raise damaged(layout, f"row {sound}" if sound < sealed else "a row", f"the shard was sealed with {sealed} rows")


def _erase_leftovers(disk: Disk, fd: int, layout: ShardLayout, kept: tuple[int, int], blob_tail: int) -> None:
    """Erase all rows but the first `kept` of episodes and documents, and what is there of a seal; then sync."""
    episodes = Leftover.read(disk, fd, layout, "episodes", kept[0])
    documents = Leftover.read(disk, fd, layout, "documents", kept[1])
    seal = Leftover.read(disk, fd, layout, "seal", 0)
    episodes.check(lambda row: int(row["group_first"]) > kept[0])
    documents.check(lambda row: int(row["offset"]) + int(row["size"]) <= blob_tail)
    seal.check(lambda _: False)
    for leftover in (episodes, documents, seal):
        leftover.erase(disk, fd)
    disk.sync(fd)
