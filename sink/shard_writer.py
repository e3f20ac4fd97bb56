"""Appending to one shard. Order is everything here: data, sync, rows, sync; only then may anyone be told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.checksum import Buffer
from protocol.layout import DOCUMENT, EPISODE, FRAME, SEAL, Capacity, Rows, ShardLayout, read_rows, seal_row
from sink.disk import Disk
from sink.recovery import Recovered, recover
from sink.staging import Staging


class ShardWriter:
    """One shard that is written to. Tails count blob bytes, steps and rows in use."""

    def __init__(self, disk: Disk, layout: ShardLayout) -> None:
        """Open and recover. Raises CorruptionError."""
        self.layout = layout
        self._disk = disk
        self._fd = disk.open(layout.path)
        try:
            self.recovered: Recovered = recover(disk, self._fd, layout)
        except BaseException:
            disk.close(self._fd)
            raise
        self._direct = disk.open_direct(layout.path)
        self._staging = Staging(disk, self._direct, layout.offsets["blob"], self.recovered.blob_tail)
        self.step_tail = self.recovered.step_tail
        self.rows = len(self.recovered.indices)
        self.open_episodes = 0  # episodes under way whose frames lie here
        self._rows_digest = self.recovered.rows_digest
        self._documents = set(self.recovered.documents)
        self._pending: list[Rows] = []

    @property
    def path(self) -> Path:
        """The file."""
        return self.layout.path

    @property
    def blob_tail(self) -> int:
        """Blob bytes in use."""
        return self._staging.tail

    @property
    def capacity(self) -> Capacity:
        """What the file can hold."""
        return self.layout.capacity

    @property
    def pending(self) -> int:
        """Rows added since the last commit."""
        return len(self._pending)

    @property
    def fill(self) -> float:
        """Share of the fullest of its capacities, 0 to 1."""
        rows = self.rows + len(self._pending)
        return max(
            self.blob_tail / self.capacity.blob_bytes,
            self.step_tail / self.capacity.steps,
            rows / self.capacity.episodes,
            len(self._documents) / self.capacity.documents,
        )

    def fits(self, blob_bytes: int, steps: int = 0, rows: int = 0, documents: int = 0) -> bool:
        """There is room for this much more."""
        return (
            self.blob_tail + blob_bytes <= self.capacity.blob_bytes
            and self.step_tail + steps <= self.capacity.steps
            and self.rows + len(self._pending) + rows <= self.capacity.episodes
            and len(self._documents) + documents <= self.capacity.documents
        )

    def append_blob(self, buffers: Sequence[Buffer]) -> int:
        """Write buffers back to back at the end of the blob; returns the offset of the first."""
        offset = self._staging.tail
        self._staging.append(buffers)
        return offset

    def read_blob(self, offset: int, size: int) -> bytes:
        """Bytes of the blob, e.g. to move them to the next shard."""
        self._staging.flush()
        return self._disk.read(self._fd, size, self.layout.offsets["blob"] + offset)

    def has_document(self, sha256: str) -> bool:
        """The document is in this shard."""
        return sha256 in self._documents

    def read_document(self, sha256: str) -> bytes:
        """A document that is in this shard."""
        rows = read_rows(self._fd, self.layout, "documents", 0)
        row = rows[rows["sha256"] == sha256.encode()][0]
        return self.read_blob(int(row["offset"]), int(row["size"]))

    def append_document(self, sha256: str, data: Buffer) -> None:
        """Write a document and its row; it counts once an episode is committed after it."""
        row = np.zeros((), DOCUMENT)
        row["sha256"], row["size"], row["offset"] = sha256.encode(), len(data), self.append_blob([data])
        number = len(self._documents)
        seal_row(row, number)
        self._disk.write(self._fd, [row.tobytes()], self.layout.offsets["documents"] + number * DOCUMENT.itemsize)
        self._documents.add(sha256)

    def append_steps(self, tables: Sequence[NDArray[np.void]], columns: Sequence[Buffer], steps: int) -> int:
        """Write the frame tables, FRAME[T] a camera, and the columns of an episode; returns its first step."""
        first = self.step_tail
        spec = self.layout.spec
        for camera, table in zip(spec.cameras, tables, strict=True):
            place = self.layout.offsets[f"steps/images/{camera.name}"] + first * FRAME.itemsize
            self._disk.write(self._fd, [table.tobytes()], place)
        for column, data in zip(spec.columns, columns, strict=True):
            place = self.layout.offsets[f"steps/{column.name}"] + first * column.row_bytes
            self._disk.write(self._fd, [data], place)
        self.step_tail += steps
        return first

    def add_row(self, row: Rows) -> None:
        """Add an EPISODE row to the next commit; `blob_end`, `group_first`, time and checksum are filled in there."""
        row["blob_end"] = self.blob_tail
        self._pending.append(row)

    def commit(self) -> int:
        """Make everything added so far durable; returns how many rows that was."""
        if not self._pending:
            return 0
        self._staging.flush()
        self._disk.sync(self._fd)  # the data are on disk before a row can say so
        first, now = self.rows, time.time_ns()
        for number, row in enumerate(self._pending, first):
            row["group_first"], row["committed_ns"] = first, now
            seal_row(row, number)
        data = b"".join(row.tobytes() for row in self._pending)
        self._disk.write(self._fd, [data], self.layout.offsets["episodes"] + first * EPISODE.itemsize)
        self._disk.sync(self._fd)
        count = len(self._pending)
        self.rows += count
        self._rows_digest.update(data)
        self._pending.clear()
        return count

    def seal(self) -> None:
        """Mark the shard as full for ever and give the unused reservation back. Only after the last commit."""
        assert not self._pending, (self.path, len(self._pending))
        assert not self.open_episodes, (self.path, self.open_episodes)
        row = np.zeros((), SEAL)
        blob_end = self.blob_tail if self.rows else 0
        row["episodes"], row["steps"], row["blob"] = self.rows, self.step_tail, blob_end
        row["sealed_ns"], row["rows_checksum"] = time.time_ns(), self._rows_digest.intdigest()
        seal_row(row, 0)
        for name, used, total in (
            ("episodes", self.rows * EPISODE.itemsize, self.capacity.episodes * EPISODE.itemsize),
            ("blob", blob_end, self.capacity.blob_bytes),
            *(
                (f"steps/{c.name}", self.step_tail * c.row_bytes, self.capacity.steps * c.row_bytes)
                for c in self.layout.spec.columns
            ),
            *(
                (f"steps/images/{c.name}", self.step_tail * FRAME.itemsize, self.capacity.steps * FRAME.itemsize)
                for c in self.layout.spec.cameras
            ),
        ):
            # A file system that cannot do this keeps the space; the shard is as good.
            self._disk.release(self._fd, self.layout.offsets[name] + used, total - used)
        self._disk.write(self._fd, [row.tobytes()], self.layout.offsets["seal"])
        self._disk.sync(self._fd)

    def close(self) -> None:
        """Close the file."""
        self._staging.close()
        self._disk.close(self._direct)
        self._disk.close(self._fd)
