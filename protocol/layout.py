"""The layout of a shard: dataset names, row types, and where each dataset lies in the file. SPEC.md section 3.

    000003.h5                                    B bytes, S steps, E episodes, D documents: capacities
      attrs                  format_version, stream_spec (JSON), step_capacity, shard, dataset_uuid, created_ns,
                             metadata_checksum; of a packed shard (format_version 2) also packing (JSON)
      blob                   uint8[B]            JPEG frames, attribute documents and shared documents, back to back
      steps/<column>         dtype[S, *shape]    one row per step, e.g. steps/action, steps/observations/qpos
      steps/images/<camera>  FRAME[S]            where the step's frame lies in blob
      documents              DOCUMENT[D]         texts that episodes share, by SHA-256
      episodes               EPISODE[E]          one row per commit
      seal                   SEAL[1]             written once, when the shard is full

Every dataset is contiguous and allocated when the file is made, so each has one fixed offset in the file and HDF5's own
metadata never change. All numbers are little-endian; offsets into blob count from its first byte.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from protocol.checksum import metadata_checksum, row_checksum, rows_checksum
from protocol.errors import CorruptionError, DatasetError, HeadraceError, SpecError
from protocol.packing import Packing
from protocol.spec import StreamSpec

Rows = NDArray[np.void]

FORMAT_VERSION = 1
PACKED_VERSION = 2
SHARD_NAME = "{:06d}.h5"
SHARD_PATTERN = r"(\d{6,})\.h5"
# Rows of a table that are read at once.
_MAX_BATCH = 1 << 15

FRAME = np.dtype([("offset", "<u8"), ("size", "<u4"), ("checksum", "<u4")])

EPISODE = np.dtype(
    [
        # First a field that is never 0: what a sector holds of a row is zero only if it was never written.
        ("outcome", "<u4"),  # messages.Outcome
        ("steps", "<u4"),  # T; 0 for VOID
        ("index", "<u8"),
        ("first_step", "<u8"),  # row of its first step in every dataset below steps/
        ("attributes_offset", "<u8"),
        ("attributes_size", "<u4"),
        ("frames_bytes", "<u4"),  # JPEG bytes of the episode; 0xFFFFFFFF if more
        ("blob_end", "<u8"),  # blob bytes in use once this row is committed
        ("group_first", "<u8"),  # row number of the first row that was synced together with this one
        ("seed", "<u8"),
        ("began_ns", "<u8"),  # producer's clock, Unix time
        ("ended_ns", "<u8"),  # producer's clock, Unix time
        ("committed_ns", "<u8"),  # sink's clock, Unix time, just before the row was written
        ("producer", "S64"),
        ("data_checksum", "<u8"),  # checksum.episode_checksum
        ("row_checksum", "<u8"),  # checksum.row_checksum over all fields above, seeded with the row number
    ]
)

DOCUMENT = np.dtype(
    [("sha256", "S64"), ("offset", "<u8"), ("size", "<u4"), ("reserved", "<u4"), ("row_checksum", "<u8")]
)

SEAL = np.dtype(
    [
        ("episodes", "<u8"),
        ("steps", "<u8"),
        ("blob", "<u8"),
        ("sealed_ns", "<u8"),
        ("rows_checksum", "<u8"),  # checksum.rows_checksum of the committed rows
        ("row_checksum", "<u8"),
    ]
)


@dataclass(frozen=True)
class Capacity:
    """How much one shard holds."""

    blob_bytes: int
    steps: int
    episodes: int
    documents: int = 256


@dataclass(frozen=True)
class ShardLayout:
    """Where everything lies in one shard file. `offsets`: dataset name → byte offset in the file.

    packing: how frames are stored; None: as JPEG.
    """

    path: Path
    number: int
    spec: StreamSpec
    capacity: Capacity
    dataset_uuid: str
    offsets: dict[str, int]
    packing: Packing | None = None

    @classmethod
    def read(cls, path: Path) -> ShardLayout:
        """Read it with h5py. Raises DatasetError if the file is no shard of this format, CorruptionError if damaged."""
        try:
            with h5py.File(path, "r", locking=False) as file:
                version = int(file.attrs.get("format_version", 0))
                if version not in (FORMAT_VERSION, PACKED_VERSION):
                    readable = f"{FORMAT_VERSION} and {PACKED_VERSION}"
                    raise DatasetError(f"{path}: format version {version}; this release reads {readable}")
                layout = cls._read(path, file)
                same = int(file.attrs["metadata_checksum"]) == stored_metadata_checksum(file, layout.spec)
        except (FileNotFoundError, HeadraceError) as error:
            if isinstance(error, SpecError):
                raise DatasetError(f"{path}: not a Headrace shard: {error}") from error
            raise
        except Exception as error:  # damaged metadata make HDF5 and h5py raise all sorts of things
            raise DatasetError(f"{path}: not a Headrace shard: {error}") from error
        if not same:
            raise CorruptionError(
                f"{path}: its attributes or the places of its datasets differ from metadata_checksum; nothing was "
                "changed. Restore the file from a copy, or move it away to go on without its episodes"
            )
        return layout

    @classmethod
    def _read(cls, path: Path, file: h5py.File) -> ShardLayout:
        spec = StreamSpec.from_json(bytes(file.attrs["stream_spec"]))
        found = {name: file[name].id for name in dataset_names(spec)}
        rows = {name: int(dataset.shape[0]) for name, dataset in found.items()}
        capacity = Capacity(rows["blob"], int(file.attrs["step_capacity"]), rows["episodes"], rows["documents"])
        size = path.stat().st_size
        for name, dataset in found.items():
            dtype, shape = dataset_type(spec, capacity, name)
            offset, stored = dataset.get_offset(), dataset.get_storage_size()
            if dataset.shape != shape or stored != dtype.itemsize * prod(shape):
                what = f"{list(dataset.shape)} of {stored} bytes, expected {list(shape)} of {dtype.itemsize} each"
                raise CorruptionError(f"{path}: dataset {name} is {what}; restore the file from a copy")
            if offset is None or offset + stored > size:
                what = f"dataset {name} is {stored} bytes at {offset}, but the file ends at {size}"
                raise CorruptionError(f"{path}: {what}; restore the file from a copy")
        uuid = bytes(file.attrs["dataset_uuid"]).decode()
        offsets = {name: int(dataset.get_offset()) for name, dataset in found.items()}
        packed = stored_packing(file)
        packing = Packing.from_json(packed) if packed else None
        return cls(path, int(file.attrs["shard"]), spec, capacity, uuid, offsets, packing)


def stored_packing(file: h5py.File) -> bytes:
    """The attribute `packing` of an open shard; nothing if its version has none."""
    return bytes(file.attrs["packing"]) if int(file.attrs["format_version"]) == PACKED_VERSION else b""


def stored_metadata_checksum(file: h5py.File, spec: StreamSpec) -> int:
    """checksum.metadata_checksum of an open shard, from its attributes and its datasets' places."""
    attributes = file.attrs
    datasets = [file[name].id for name in dataset_names(spec)]
    return metadata_checksum(
        bytes(attributes["stream_spec"]),
        bytes(attributes["dataset_uuid"]) + stored_packing(file),
        [int(attributes[name]) for name in ("format_version", "shard", "step_capacity", "created_ns")],
        [(dataset.get_offset(), dataset.shape[0]) for dataset in datasets],
    )


def dataset_names(spec: StreamSpec) -> list[str]:
    """All datasets of a shard of this stream, in file order; blob is last."""
    return [
        "episodes",
        "documents",
        "seal",
        *(f"steps/images/{camera.name}" for camera in spec.cameras),
        *(f"steps/{column.name}" for column in spec.columns),
        "blob",
    ]


def dataset_type(spec: StreamSpec, capacity: Capacity, name: str) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """dtype and shape of one dataset."""
    fixed: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
        "episodes": (EPISODE, (capacity.episodes,)),
        "documents": (DOCUMENT, (capacity.documents,)),
        "seal": (SEAL, (1,)),
        "blob": (np.dtype("u1"), (capacity.blob_bytes,)),
    }
    if name in fixed:
        return fixed[name]
    if name.startswith("steps/images/"):
        return FRAME, (capacity.steps,)
    column = next(column for column in spec.columns if f"steps/{column.name}" == name)
    return column.numpy_dtype, (capacity.steps, *column.shape)


def shard_bytes(spec: StreamSpec, capacity: Capacity) -> int:
    """Bytes that a shard reserves on disk, without HDF5's own few kB."""
    kinds = (dataset_type(spec, capacity, name) for name in dataset_names(spec))
    return sum(dtype.itemsize * prod(shape) for dtype, shape in kinds)


def seal_row(row: Rows, number: int) -> None:
    """Fill in the row_checksum of a table row, shape (), in place."""
    row["row_checksum"] = row_checksum(row.tobytes()[:-8], number)


def is_sound(row: np.void, number: int) -> bool:
    """The row was written whole, and it is row `number`."""
    return bool(row["row_checksum"] == row_checksum(row.tobytes()[:-8], number))


def read_rows(fd: int, layout: ShardLayout, name: str, first: int) -> Rows:
    """The sound rows of a table from row `first` up to the first that is not: a structured array, possibly empty."""
    dtype, (total,) = dataset_type(layout.spec, layout.capacity, name)
    sound: list[Rows] = []
    batch = 64
    while first < total:
        count = min(batch, total - first)
        data = os.pread(fd, count * dtype.itemsize, layout.offsets[name] + first * dtype.itemsize)
        good = _count_sound(data, dtype.itemsize, first)
        sound.append(np.frombuffer(data, dtype, good))
        first += good
        if good < count:
            break
        batch = min(batch * 16, _MAX_BATCH)
    return np.concatenate(sound) if sound else np.empty(0, dtype)


def _count_sound(data: bytes, size: int, first: int) -> int:
    """How many rows of `size` bytes are sound, up to the first that is not. A restart checks hundreds of thousands."""
    whole = len(data) // size
    found = np.frombuffer(data, "<u8", whole * size // 8).reshape(whole, -1)[:, -1].tolist()
    view, start = memoryview(data), 0
    for number, checksum in enumerate(found, first):
        if row_checksum(view[start : start + size - 8], number) != checksum:
            return number - first
        start += size
    return whole


def read_seal(fd: int, layout: ShardLayout) -> np.void | None:
    """The seal, SEAL; None if it is not sound, so that the shard may still grow."""
    seal: np.void = np.frombuffer(os.pread(fd, SEAL.itemsize, layout.offsets["seal"]), SEAL)[0]
    return seal if is_sound(seal, 0) else None


def read_sealed_rows(fd: int, layout: ShardLayout, seal: np.void) -> Rows | None:
    """The rows of a full shard, checked in one pass; None if they differ from the seal, and `read_rows` tells where."""
    count = min(int(seal["episodes"]), layout.capacity.episodes)
    data = os.pread(fd, count * EPISODE.itemsize, layout.offsets["episodes"])
    return np.frombuffer(data, EPISODE) if rows_checksum(data) == int(seal["rows_checksum"]) else None
