"""Reading a shard while it grows: only committed episodes, never a torn one, and never in the writer's way.

h5py is used once, to learn the offsets. After that rows and frames are read with `pread`, because an h5py file that is
held open serves small reads from its own buffers, which are stale after the writer's `pwrite`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.checksum import episode_checksum, frame_checksum
from protocol.errors import CorruptionError, DatasetError
from protocol.jpeg import decode
from protocol.layout import (
    EPISODE,
    SEAL,
    Rows,
    ShardLayout,
    dataset_names,
    dataset_type,
    read_rows,
    read_seal,
    read_sealed_rows,
)
from protocol.messages import Outcome
from protocol.packing import Packing
from protocol.spec import StreamSpec
from protocol.video import VideoDecoder

# What lies where nothing was written yet.
_NO_ROW, _NO_SEAL = bytes(EPISODE.itemsize), bytes(SEAL.itemsize)


class ShardView:
    """One shard, read-only. `rows`: the committed rows seen so far, EPISODE[n]."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError if `path` is no shard."""
        self.layout = ShardLayout.read(path)
        names = dataset_names(self.spec)
        self._types = {name: dataset_type(self.spec, self.layout.capacity, name) for name in names}
        self._row_bytes = {name: dtype.itemsize * prod(shape[1:]) for name, (dtype, shape) in self._types.items()}
        self.cameras = {camera.name: camera for camera in self.spec.cameras}
        self._sealed = False
        self._decoder: VideoDecoder | None = None
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.rows = self._committed_rows()

    def __enter__(self) -> ShardView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; views of its episodes cannot be read any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def spec(self) -> StreamSpec:
        """The stream's schema."""
        return self.layout.spec

    @property
    def packing(self) -> Packing | None:
        """How the frames of a packed shard are stored; None: they are JPEG."""
        return self.layout.packing

    @property
    def decoder(self) -> VideoDecoder:
        """For the frames of a packed shard. Raises DatasetError if PyAV is not installed."""
        if self._decoder is None:
            self._decoder = VideoDecoder()
        return self._decoder

    @property
    def sealed(self) -> bool:
        """The shard is full and never changes again."""
        if not self._sealed and os.pread(self._fd, SEAL.itemsize, self.layout.offsets["seal"]) != _NO_SEAL:
            self._sealed = read_seal(self._fd, self.layout) is not None
        return self._sealed

    def _committed_rows(self) -> Rows:
        seal = read_seal(self._fd, self.layout)
        rows = read_sealed_rows(self._fd, self.layout, seal) if seal is not None else None
        return rows if rows is not None else read_rows(self._fd, self.layout, "episodes", 0)

    def is_at_its_path(self) -> bool:
        """The path still names the file that is open here."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.layout.path))
        except FileNotFoundError:
            return False

    def is_same_as(self, other: ShardView) -> bool:
        """Both are the same shard of the same dataset, with the same episodes in the same rows, packed or not."""
        mine, theirs = self.layout, other.layout
        fields = ["index", "outcome", "steps", "first_step", "committed_ns"]
        same = (mine.dataset_uuid, mine.number, mine.spec) == (theirs.dataset_uuid, theirs.number, theirs.spec)
        return same and np.array_equal(self.rows[fields], other.rows[fields])

    def is_packed_at_its_path(self) -> bool:
        """The path names a packed copy of this shard by now. What is open here stays readable."""
        try:
            with ShardView(self.layout.path) as there:
                return there.packing is not None and self.is_same_as(there)
        except FileNotFoundError:
            return False

    def refresh(self) -> int:
        """Look for new commits; returns how many there are. One small read if nothing was written."""
        place = self.layout.offsets["episodes"] + len(self.rows) * EPISODE.itemsize
        if len(self.rows) == self.layout.capacity.episodes or os.pread(self._fd, EPISODE.itemsize, place) == _NO_ROW:
            return 0
        new = read_rows(self._fd, self.layout, "episodes", len(self.rows))
        if len(new):
            self.rows = np.concatenate([self.rows, new])
        return len(new)

    def __len__(self) -> int:
        return len(self.rows)

    def episode(self, number: int) -> EpisodeView:
        """The episode of row `number`, 0 ≤ number < len(self)."""
        return EpisodeView(self, number)

    def document(self, sha256: str) -> bytes:
        """A document that an episode refers to. Raises DatasetError if the shard does not have it."""
        for row in read_rows(self._fd, self.layout, "documents", 0):
            if row["sha256"] == sha256.encode():
                data = self.blob(int(row["offset"]), int(row["size"]))
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise CorruptionError(f"{self.layout.path}: document {sha256} has another SHA-256")
                return data
        raise DatasetError(f"{self.layout.path}: no document {sha256}")

    def blob(self, offset: int, size: int) -> bytes:
        """Bytes of the blob."""
        if offset + size > self.layout.capacity.blob_bytes:
            raise CorruptionError(f"{self.layout.path}: bytes {offset} to {offset + size} lie beyond the blob")
        return os.pread(self._fd, size, self.layout.offsets["blob"] + offset)

    def announce(self, offset: int, size: int) -> None:
        """Say that these bytes of the blob will be read soon, so that they are brought from the disk meanwhile."""
        if size > 0 and offset + size <= self.layout.capacity.blob_bytes:
            os.posix_fadvise(self._fd, self.layout.offsets["blob"] + offset, size, os.POSIX_FADV_WILLNEED)

    def steps(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Rows [first, first + count) of a dataset, e.g. `steps/action`: dtype[count, *shape], read-only."""
        dtype, shape = self._types[name]
        if first + count > shape[0]:
            raise CorruptionError(f"{self.layout.path}: steps {first} to {first + count} lie beyond {name}")
        return np.frombuffer(self._read(name, first, count), dtype).reshape(count, *shape[1:])

    def _read(self, name: str, first: int, count: int) -> bytes:
        row = self._row_bytes[name]
        data = os.pread(self._fd, row * count, self.layout.offsets[name] + row * first)
        if len(data) != row * count:
            raise CorruptionError(f"{self.layout.path}: {name} is cut off; the file was truncated")
        return data


def packet_reader(shard: ShardView, table: NDArray[Any]) -> Callable[[int], bytes]:
    """Reads the packets of a group, FRAME[n], by their number, and raises CorruptionError if they are not whole."""

    def read(number: int) -> bytes:
        place = table[number]
        data = shard.blob(int(place["offset"]), int(place["size"]))
        if frame_checksum(data) != int(place["checksum"]):
            raise CorruptionError("the frame differs from its checksum")
        return data

    return read


class EpisodeView:
    """One committed episode of a shard."""

    def __init__(self, shard: ShardView, number: int) -> None:
        self.shard = shard
        self.number = number
        self.row = shard.rows[number]

    @property
    def index(self) -> int:
        """The index inside the stream."""
        return int(self.row["index"])

    @property
    def outcome(self) -> Outcome:
        """SUCCESS, FAILURE, or VOID (no steps)."""
        return Outcome(int(self.row["outcome"]))

    @property
    def steps(self) -> int:
        """T."""
        return int(self.row["steps"])

    @property
    def producer(self) -> str:
        """Who made it."""
        return bytes(self.row["producer"]).decode(errors="replace")

    def attributes(self) -> dict[str, Any]:
        """The attribute document."""
        data: dict[str, Any] = msgspec.json.decode(self._attribute_bytes(), type=dict[str, Any])
        return data

    def column(self, name: str) -> NDArray[Any]:
        """dtype[T, *shape] of a column, e.g. `action`."""
        return self.shard.steps(f"steps/{name}", int(self.row["first_step"]), self.steps)

    def frame_table(self, camera: str) -> NDArray[Any]:
        """FRAME[T]: where each frame of a camera lies in the blob."""
        return self.shard.steps(f"steps/images/{camera}", int(self.row["first_step"]), self.steps)

    def frame(self, camera: str, step: int) -> bytes:
        """The JPEG bytes of one step. Raises DatasetError if the shard is packed, for then there are none."""
        if self.shard.packing is not None:
            raise DatasetError(f"{self.shard.layout.path} is packed: it has video and no JPEG; ask for image() instead")
        place = self.shard.steps(f"steps/images/{camera}", int(self.row["first_step"]) + step, 1)[0]
        return self.shard.blob(int(place["offset"]), int(place["size"]))

    def image(self, camera: str, step: int) -> NDArray[np.uint8]:
        """uint8[H, W, 3], upright RGB: the frame of one step, packed or not. One step after the other is fast."""
        packing = self.shard.packing
        if packing is None:
            return decode(self.frame(camera, step))
        first, count = packing.group(step, self.steps)
        table = self.shard.steps(f"steps/images/{camera}", int(self.row["first_step"]) + first, count)
        read = packet_reader(self.shard, table)
        key = int(table["offset"][0])
        return self.shard.decoder.image(key, count, step - first, read, self.shard.cameras[camera])

    def check(self) -> None:
        """Read everything and compare the checksums. Raises CorruptionError that names the place."""
        where = f"{self.shard.layout.path}: row {self.number}, index {self.index}"
        tables = {camera.name: self.frame_table(camera.name) for camera in self.shard.spec.cameras}
        for camera, table in tables.items():
            for step, place in enumerate(table):
                data = self.shard.blob(int(place["offset"]), int(place["size"]))
                if frame_checksum(data) != int(place["checksum"]):
                    raise CorruptionError(f"{where}: camera {camera!r}, step {step}: frame differs from its checksum")
        self.check_columns()

    def check_columns(self) -> None:
        """As `check`, but of columns, attributes and frame tables only; no frame is read."""
        tables = [self.frame_table(camera.name) for camera in self.shard.spec.cameras]
        columns = [self.column(column.name) for column in self.shard.spec.columns] if self.steps else []
        checksums = [np.ascontiguousarray(table["checksum"]) for table in tables]
        if episode_checksum(checksums, columns, self._attribute_bytes()) != int(self.row["data_checksum"]):
            where = f"{self.shard.layout.path}: row {self.number}, index {self.index}"
            raise CorruptionError(f"{where}: the columns or attributes differ from the episode's checksum")

    def _attribute_bytes(self) -> bytes:
        return self.shard.blob(int(self.row["attributes_offset"]), int(self.row["attributes_size"]))
