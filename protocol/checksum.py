"""Checksums from the producer to the reader: XXH3, which runs at memory speed (github.com/Cyan4973/xxHash)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview


def frame_checksum(frame: Buffer) -> int:
    """Of one JPEG frame: the low 32 bits of XXH3-64."""
    return xxhash.xxh3_64_intdigest(frame) & 0xFFFFFFFF


def document_checksum(document: Buffer) -> int:
    """Of bytes in a blob that are no frame: XXH3-64."""
    return xxhash.xxh3_64_intdigest(document)


def episode_checksum(
    frame_checksums: Iterable[NDArray[np.uint32]], columns: Sequence[Buffer | NDArray[np.generic]], attributes: Buffer
) -> int:
    """Of a whole episode: XXH3-64 over, in this order,

    1. for each camera in the order of the spec: the checksums of its frames, uint32[T] little-endian;
    2. for each column in the order of the spec: its rows, [T, *shape] little-endian, C order;
    3. the attribute document, as stored.
    """
    digest = xxhash.xxh3_64()
    for checksums in frame_checksums:
        digest.update(np.ascontiguousarray(checksums, dtype="<u4").data)
    for column in columns:
        if isinstance(column, np.ndarray):
            column = np.ascontiguousarray(column, column.dtype.newbyteorder("<")).data
        digest.update(column)
    digest.update(attributes)
    return digest.intdigest()


def row_checksum(row: Buffer, number: int) -> int:
    """Of a table row without its last field: XXH3-64 seeded with the row's number, so that a misplaced row shows."""
    return xxhash.xxh3_64_intdigest(row, seed=number)


def rows_checksum(rows: Buffer) -> int:
    """Of all committed rows of a full shard, back to back: XXH3-64, so that they are checked in one pass."""
    return xxhash.xxh3_64_intdigest(rows)


def metadata_checksum(spec: bytes, names: bytes, numbers: Sequence[int], places: Iterable[tuple[int, int]]) -> int:
    """Of what HDF5 stores about a shard without a checksum of its own: XXH3-64 over, in this order,

    1. the attributes stream_spec, dataset_uuid and, of a packed shard, packing, as stored;
    2. the attributes format_version, shard, step_capacity, created_ns, int64 little-endian each: `numbers`;
    3. for each dataset in the order of `layout.dataset_names`: its offset in the file and its number of rows, as 2.

    spec: stream_spec; names: the attributes after it.
    """
    digest = xxhash.xxh3_64(spec)
    digest.update(names)
    digest.update(np.array([*numbers, *(number for place in places for number in place)], "<i8").tobytes())
    return digest.intdigest()


def flag_checksum(line: Buffer, sequence: int, dataset_uuid: str, stream: str) -> int:
    """Of a line of flags without its last 32 bytes: XXH3-64, seeded with the line's number, over, in this order,

    1. the uuid of the dataset, "/", the name of the stream and an end of line, so that a file of another stream shows;
    2. the bytes of the line.
    """
    digest = xxhash.xxh3_64(f"{dataset_uuid}/{stream}\n".encode(), seed=sequence)
    digest.update(line)
    return digest.intdigest()
