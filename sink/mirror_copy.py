"""Copies what some rows of a shard claim to the same places of its mirror, and checks it there.

Nothing here writes a row, so nothing that is copied counts yet. What is checked is what was written, not what was read;
if it is wrong the source is checked in the same way, to tell which of the two is to blame.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.layout import DOCUMENT, FRAME, Rows, ShardLayout, dataset_type
from sink.content_audit import ContentAudit
from sink.disk import Disk
from sink.fault import Fault
from sink.row_audit import FrameTable, check_rows, read_frame_table
from sink.shard_audit import ShardAudit, UnreadableError

# Read and written at once [bytes].
PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Claims:
    """Committed rows [first, first + len(rows)) of a shard, EPISODE[n], and its documents, DOCUMENT[m].

    first_document: those from there on are new. layout: of the source; its mirror has the same.
    """

    layout: ShardLayout
    first: int
    rows: Rows
    documents: Rows
    first_document: int

    def audit(self, fd: int) -> ShardAudit:
        """The same claims, made by a file: the source, or the mirror. Faults name the source."""
        layout = self.layout
        names = layout.offsets
        lengths = {name: dataset_type(layout.spec, layout.capacity, name)[1][0] for name in names}
        numbers = np.arange(self.first, self.first + len(self.rows))
        return ShardAudit(
            layout.path,
            fd,
            layout.spec,
            layout.number,
            layout.dataset_uuid,
            layout.offsets,
            lengths,
            rows=self.rows,
            numbers=numbers,
            documents=self.documents,
            packing=layout.packing,
        )

    def of_first(self, count: int) -> Claims:
        """Those of the first `count` rows only; documents count if they end before what the rows say is in use."""
        rows = self.rows[:count]
        inside = self.documents["offset"] + self.documents["size"] <= rows["blob_end"].max(initial=0)
        inside[: self.first_document] = True
        return replace(self, rows=rows, documents=self.documents[: int(np.logical_and.accumulate(inside).sum())])


def copy(disk: Disk, source: int, mirror: int, claims: Claims, pool: ThreadPoolExecutor) -> list[Fault]:
    """Copy and check; returns what is wrong, in which case nothing of it may be committed. Raises UnreadableError."""
    there = claims.audit(source)
    there.faults += check_rows(there)
    table = read_frame_table(there)
    if there.faults:
        return there.faults
    pieces = _pieces(_extents(claims, table))

    def copy_piece(piece: tuple[int, int]) -> None:
        start, size = piece
        data = os.pread(source, size, start)
        if len(data) != size:
            what = f"bytes {start} to {start + size} of the file: it ends after {len(data)} of them; it was cut off"
            raise UnreadableError(Fault(claims.layout.path, what))
        disk.write(mirror, [data], start)

    copying = [pool.submit(copy_piece, piece) for piece in pieces]
    wait(copying)  # also when one of them fails: nothing may still be writing when this returns
    for done in copying:
        done.result()
    new = claims.documents[claims.first_document :]
    if len(new):
        place = claims.layout.offsets["documents"] + claims.first_document * DOCUMENT.itemsize
        disk.write(mirror, [new.tobytes()], place)
    return _faults(claims, mirror, pool)


def blame(source: int, claims: Claims, pool: ThreadPoolExecutor) -> list[Fault]:
    """The faults of the source itself; none if only its mirror is wrong. Raises UnreadableError."""
    return _faults(claims, source, pool)


def _faults(claims: Claims, fd: int, pool: ThreadPoolExecutor) -> list[Fault]:
    shard = claims.audit(fd)
    shard.faults += check_rows(shard)
    content = ContentAudit(shard, read_frame_table(shard), lambda _: None, claims.first_document)
    return [*shard.faults, *content.run(pool)]


def _extents(claims: Claims, table: FrameTable) -> NDArray[np.int64]:
    """int64[n, 2]: start and end in the file of everything that the rows claim, in any order."""
    layout, rows = claims.layout, claims.rows
    blob = layout.offsets["blob"]
    documents = claims.documents[claims.first_document :]
    parts = [
        _spans(blob, table.places["offset"], table.places["size"]),
        _spans(blob, rows["attributes_offset"], rows["attributes_size"]),
        _spans(blob, documents["offset"], documents["size"]),
    ]
    widths = {f"steps/images/{camera.name}": FRAME.itemsize for camera in layout.spec.cameras}
    widths |= {f"steps/{column.name}": column.row_bytes for column in layout.spec.columns}
    for name, width in widths.items():
        first, steps = (rows[field].astype(np.int64) * width for field in ("first_step", "steps"))
        parts.append(_spans(layout.offsets[name], first, steps))
    return np.concatenate(parts)


def _spans(base: int, offsets: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.int64]:
    starts = base + offsets.astype(np.int64)
    return np.stack([starts, starts + sizes.astype(np.int64)], axis=1)


def _pieces(extents: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(start, size) of pieces that cover the extents and nothing else."""
    extents = extents[extents[:, 1] > extents[:, 0]]
    if not len(extents):
        return []
    extents = extents[np.argsort(extents[:, 0], kind="stable")]
    ends = np.maximum.accumulate(extents[:, 1])
    cuts = np.flatnonzero(extents[1:, 0] > ends[:-1]) + 1
    starts = extents[np.concatenate([[0], cuts]), 0].tolist()
    lasts = ends[np.concatenate([cuts - 1, [len(ends) - 1]])].tolist()
    return [
        (at, min(PIECE_BYTES, last - at))
        for start, last in zip(starts, lasts, strict=True)
        for at in range(start, last, PIECE_BYTES)
    ]
