"""The tables of one shard, read and judged without the code that wrote them: h5py tells the places, the rest is here.

A row that is not sound is either torn (the sink died while it wrote a group of rows, which was therefore never
acknowledged) or damaged. It is damaged if a later group was committed after it, if the shard was sealed with it, or if
it was written whole: a torn write leaves whole sectors behind as they were, which is zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from protocol.errors import SpecError
from protocol.layout import DOCUMENT, EPISODE, FORMAT_VERSION, FRAME, PACKED_VERSION, SEAL, Rows
from protocol.packing import Packing
from protocol.spec import StreamSpec
from sink.fault import Fault

# A disk writes a sector whole or not at all [bytes].
SECTOR = 512
# A sink that runs may be in the middle of writing a row: look again, this often, after this long.
LOOK_AGAIN = 5
LOOK_AGAIN_S = 0.02


class UnreadableError(Exception):
    """The shard, or a part of it, cannot be read; `fault` says which."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass
class ShardAudit:
    """One shard, open for reading. offsets, lengths: dataset → byte offset in the file, and rows of it.

    rows, numbers: the committed rows, EPISODE[n], and their places in the table. documents: DOCUMENT[m], committed.
    notes: what was found and is harmless. packing: how its frames are stored; None: as JPEG.
    """

    path: Path
    fd: int
    spec: StreamSpec
    number: int
    dataset_uuid: str
    offsets: dict[str, int]
    lengths: dict[str, int]
    sealed: bool = False
    rows: Rows = field(default_factory=lambda: np.empty(0, EPISODE))
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    documents: Rows = field(default_factory=lambda: np.empty(0, DOCUMENT))
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    packing: Packing | None = None

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a dataset. Raises UnreadableError."""
        try:
            data = os.pread(self.fd, size, self.offsets[name] + offset)
        except OSError as error:
            why = f"{name}, bytes {offset} to {offset + size}: cannot be read: {error.strerror}"
            raise UnreadableError(Fault(self.path, why)) from error
        if len(data) != size:
            why = f"{name}, bytes {offset} to {offset + size}: the file ends after {len(data)} of them; it was cut off"
            raise UnreadableError(Fault(self.path, why))
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def audit_shard(path: Path) -> ShardAudit:
    """Open a shard and read its tables. Raises UnreadableError; what can be told apart goes to `faults`."""
    shard = _open(path)
    try:
        seal = np.frombuffer(shard.read("seal", 0, SEAL.itemsize), SEAL)[0]
        shard.sealed = _settle(shard, "seal", SEAL, 0)
        if not shard.sealed and seal.tobytes().strip(b"\0"):
            if _written_whole(shard, "seal", seal, 0):
                shard.faults.append(Fault(path, "the seal differs from its checksum"))
            else:
                shard.notes.append(Fault(path, "the seal was torn when the sink was stopped; harmless"))
        _read_rows(shard, int(seal["episodes"]) if shard.sealed else None)
        _read_documents(shard)
        if shard.sealed:
            shard.faults += _compare_seal(shard, seal)
    except BaseException:
        shard.close()
        raise
    return shard


# --- the file ---------------------------------------------------------------------------------------------------


def _open(path: Path) -> ShardAudit:
    try:
        with h5py.File(path, "r", locking=False) as file:
            spec, number, uuid = _read_attributes(path, file)
            packing = _read_packing(path, file)
            expected = dict(_expected_datasets(spec, int(file.attrs["step_capacity"])))
            offsets, lengths, ends = {}, {}, {}
            for name, (dtype, shape) in expected.items():
                offsets[name], lengths[name] = _place(path, file, name, dtype, shape)
                ends[name] = offsets[name] + file[name].nbytes
            same = _metadata_checksum(file, offsets, lengths) == int(file.attrs["metadata_checksum"])
    except UnreadableError:
        raise
    except Exception as error:  # damaged metadata make HDF5 and h5py raise all sorts of things
        raise UnreadableError(Fault(path, f"cannot be read as a shard: {error}")) from error
    _check_extents(path, offsets, ends)
    shard = ShardAudit(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), spec, number, uuid, offsets, lengths)
    shard.packing = packing
    if not same:
        shard.faults.append(Fault(path, "its attributes or the places of its datasets differ from metadata_checksum"))
    return shard


def _metadata_checksum(file: h5py.File, offsets: dict[str, int], lengths: dict[str, int]) -> int:
    """offsets, lengths: in the order of the document, section 3.4."""
    numbers = [int(file.attrs[name]) for name in ("format_version", "shard", "step_capacity", "created_ns")]
    numbers += [number for name in offsets for number in (offsets[name], lengths[name])]
    data = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
    names = ("stream_spec", "dataset_uuid", *(("packing",) if _is_packed(file) else ()))
    return xxhash.xxh3_64_intdigest(b"".join(bytes(file.attrs[name]) for name in names) + data)


def _is_packed(file: h5py.File) -> bool:
    return int(file.attrs["format_version"]) == PACKED_VERSION


def _read_packing(path: Path, file: h5py.File) -> Packing | None:
    try:
        return Packing.from_json(bytes(file.attrs["packing"])) if _is_packed(file) else None
    except SpecError as error:
        raise UnreadableError(Fault(path, f"attribute {error}")) from error


def _read_attributes(path: Path, file: h5py.File) -> tuple[StreamSpec, int, str]:
    version = int(file.attrs["format_version"])
    if version not in (FORMAT_VERSION, PACKED_VERSION):
        expected = f"{FORMAT_VERSION} or {PACKED_VERSION}"
        raise UnreadableError(Fault(path, f"attribute format_version: expected {expected}, found {version}"))
    try:
        spec = StreamSpec.from_json(bytes(file.attrs["stream_spec"]))
        uuid = bytes(file.attrs["dataset_uuid"]).decode("ascii")
    except ValueError as error:
        raise UnreadableError(Fault(path, f"attributes stream_spec and dataset_uuid: {error}")) from error
    return spec, int(file.attrs["shard"]), uuid


def _expected_datasets(
    spec: StreamSpec, steps: int
) -> Iterator[tuple[str, tuple[np.dtype[np.generic], tuple[int | None, ...]]]]:
    """Name → dtype and shape; None: any length."""
    yield "episodes", (EPISODE, (None,))
    yield "documents", (DOCUMENT, (None,))
    yield "seal", (SEAL, (1,))
    for camera in spec.cameras:
        yield f"steps/images/{camera.name}", (FRAME, (steps,))
    for column in spec.columns:
        yield f"steps/{column.name}", (column.numpy_dtype, (steps, *column.shape))
    yield "blob", (np.dtype("u1"), (None,))


def _place(
    path: Path, file: h5py.File, name: str, dtype: np.dtype[np.generic], shape: tuple[int | None, ...]
) -> tuple[int, int]:
    """Offset in the file and number of rows of one dataset."""
    found = file[name]
    same_shape = len(found.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    offset = found.id.get_offset()
    if found.dtype != dtype or not same_shape or offset is None:
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        what = f"expected contiguous {dtype} [{sides}], found {found.dtype} {list(found.shape)} at {offset}"
        raise UnreadableError(Fault(path, f"dataset {name}: {what}"))
    return int(offset), int(found.shape[0])


def _check_extents(path: Path, offsets: dict[str, int], ends: dict[str, int]) -> None:
    order = sorted(offsets, key=lambda name: offsets[name])
    for before, after in pairwise(order):
        if offsets[after] < ends[before]:
            raise UnreadableError(Fault(path, f"the datasets {before} and {after} overlap in the file"))
    size = path.stat().st_size
    if size < ends[order[-1]]:
        raise UnreadableError(Fault(path, f"expected {ends[order[-1]]} bytes, found {size}; the file was cut off"))


# --- rows -------------------------------------------------------------------------------------------------------


def _sound(data: bytes | bytearray, number: int) -> bool:
    """The row ends with the checksum of what is before it, seeded with its number."""
    return xxhash.xxh3_64_intdigest(data[:-8], seed=number) == int.from_bytes(data[-8:], "little")


def _settle(shard: ShardAudit, name: str, dtype: np.dtype[np.void], number: int) -> bool:
    """The row is sound, now or in a moment."""
    for attempt in range(LOOK_AGAIN):
        data = shard.read(name, number * dtype.itemsize, dtype.itemsize)
        if _sound(data, number):
            return True
        if not data.strip(b"\0"):
            return False
        if attempt < LOOK_AGAIN - 1:
            time.sleep(LOOK_AGAIN_S)
    return False


def _read_table(shard: ShardAudit, name: str, dtype: np.dtype[np.void]) -> tuple[Rows, NDArray[np.bool_]]:
    """A table up to its last row that is not zero, and which of its rows are sound."""
    data = bytearray(shard.read(name, 0, shard.lengths[name] * dtype.itemsize))
    used = np.flatnonzero(np.frombuffer(data, np.uint8).reshape(-1, dtype.itemsize).any(axis=1))
    count = int(used[-1]) + 1 if len(used) else 0
    sound = np.zeros(count, np.bool_)
    for number in used.tolist():
        start = number * dtype.itemsize
        sound[number] = _sound(data[start : start + dtype.itemsize], number)
        if not sound[number] and _settle(shard, name, dtype, number):
            data[start : start + dtype.itemsize] = shard.read(name, start, dtype.itemsize)
            sound[number] = True
    return np.frombuffer(data, dtype)[:count], sound


def _written_whole(shard: ShardAudit, name: str, row: np.void, number: int) -> bool:
    """No sector that the row touches was left as it was before: zero."""
    data = row.tobytes()
    start = shard.offsets[name] + number * len(data)
    cuts = [0, *range(SECTOR - start % SECTOR, len(data), SECTOR), len(data)]
    return all(data[a:b].strip(b"\0") for a, b in pairwise(cuts))


def _read_rows(shard: ShardAudit, sealed_rows: int | None) -> None:
    rows, sound = _read_table(shard, "episodes", EPISODE)
    # Rows before this one were synced before it was written.
    synced = int(rows["group_first"][sound].max(initial=0)) if sealed_rows is None else sealed_rows
    synced = min(synced, shard.lengths["episodes"])
    if synced > len(rows):
        rows = np.concatenate([rows, np.zeros(synced - len(rows), EPISODE)])
        sound = np.concatenate([sound, np.zeros(synced - len(sound), np.bool_)])
    committed = np.zeros(len(rows), np.bool_)
    for number in range(len(rows)):
        if sound[number]:
            committed[number] = True
        elif number < synced or _written_whole(shard, "episodes", rows[number], number):
            what = "the row differs from its checksum" if rows[number].tobytes().strip(b"\0") else "the row is gone"
            shard.faults.append(Fault(shard.path, f"{what}; the episode it stood for cannot be found", row=number))
        else:
            left = int(sound[number:].sum())
            what = f"torn when the sink was stopped, with {left} rows after it; never acknowledged, harmless"
            shard.notes.append(Fault(shard.path, what, row=number))
            break
    shard.numbers = np.flatnonzero(committed)
    shard.rows = rows[committed]


def _read_documents(shard: ShardAudit) -> None:
    """Rows of documents count once an episode was committed after them."""
    rows, sound = _read_table(shard, "documents", DOCUMENT)
    blob_end = int(shard.rows["blob_end"].max(initial=0))
    inside = sound & (rows["offset"] + rows["size"] <= blob_end)
    last = int(np.flatnonzero(inside)[-1]) if inside.any() else -1
    for number in np.flatnonzero(~sound).tolist():
        if number < last or _written_whole(shard, "documents", rows[number], number):
            what = f"documents, row {number}: it differs from its checksum; the document cannot be found"
            shard.faults.append(Fault(shard.path, what))
    shard.documents = rows[inside]


def _compare_seal(shard: ShardAudit, seal: np.void) -> Iterator[Fault]:
    rows = shard.rows
    highest = shard.numbers.max(initial=-1) + 1
    steps = (rows["first_step"] + rows["steps"]).max(initial=0)
    for name, found in (("episodes", highest), ("steps", steps), ("blob", rows["blob_end"].max(initial=0))):
        if int(found) > int(seal[name]):
            yield Fault(shard.path, f"sealed with {int(seal[name])} {name}, but its rows use {int(found)}")
    if len(rows) == int(seal["episodes"]) and xxhash.xxh3_64_intdigest(rows.tobytes()) != int(seal["rows_checksum"]):
        yield Fault(shard.path, "each row is sound, but together they are not those that the shard was sealed with")
