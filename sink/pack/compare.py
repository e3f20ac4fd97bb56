"""Is a packed shard the same as the one that it was made of? Everything is read again from the file, as readers do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from protocol.errors import CorruptionError
from protocol.shard_view import EpisodeView, ShardView
from sink.pack.encoder import psnr_db
from sink.pack.shard import Work, check_sound, documents_of, seal_of

# What packing changes in a row; all else must be as it was.
_NEW_FIELDS = {"attributes_offset", "frames_bytes", "blob_end", "data_checksum", "row_checksum"}
_NEW_SEAL_FIELDS = {"blob", "rows_checksum", "row_checksum"}
# Steps whose columns are compared at once.
_STEPS = 1 << 14


def compare(source: ShardView, packed: ShardView, work: Work) -> list[float]:
    """PSNR of every frame [dB], at least that of the quality. Raises CorruptionError that names what differs."""
    check_sound(packed.layout.path, work.pool)
    for what in _differences(source, packed):
        raise CorruptionError(f"{packed.layout.path} is not {source.layout.path} with other frames: {what} differ")
    found: list[float] = []
    path, least_db = packed.layout.path, work.quality.least_db
    pairs = [(source.episode(number), name) for number in range(len(source)) for name in source.cameras]
    for part in work.pool.map(lambda pair: _compare_frames(pair[0], path, pair[1], least_db), pairs):
        found += part
        work.on_frames(len(part))
    return found


def _differences(source: ShardView, packed: ShardView) -> Iterator[str]:
    mine, other = source.layout, packed.layout
    if (mine.dataset_uuid, mine.number, mine.spec) != (other.dataset_uuid, other.number, other.spec):
        yield "dataset, number or schema"
    names = [name for name in source.rows.dtype.names or () if name not in _NEW_FIELDS]
    if not np.array_equal(source.rows[names], packed.rows[names]):
        yield "rows"
    seals = [seal_of(shard) for shard in (source, packed)]
    if any(seals[0][name] != seals[1][name] for name in seals[0].dtype.names or () if name not in _NEW_SEAL_FIELDS):
        yield "seals"
    steps = int(seals[0]["steps"])
    for column in source.spec.columns:
        name = f"steps/{column.name}"
        for first in range(0, steps, _STEPS):
            count = min(_STEPS, steps - first)
            if source.steps(name, first, count).tobytes() != packed.steps(name, first, count).tobytes():
                yield f"column {column.name!r}, steps {first} to {first + count}"
    for number in range(len(source)):
        if _attributes(source, number) != _attributes(packed, number):
            yield f"attributes of row {number}"
    if _documents(source) != _documents(packed):
        yield "documents"


def _attributes(shard: ShardView, number: int) -> bytes:
    row = shard.rows[number]
    return shard.blob(int(row["attributes_offset"]), int(row["attributes_size"]))


def _documents(shard: ShardView) -> list[bytes]:
    return [shard.document(bytes(row["sha256"]).decode()) for row in documents_of(shard)]


def _compare_frames(source: EpisodeView, path: Path, camera: str, least_db: float) -> list[float]:
    found = []
    with ShardView(path) as packed:  # of its own: what others decode takes no place here
        episode = packed.episode(source.number)
        for step in range(source.steps):
            found.append(psnr_db(episode.image(camera, step), source.image(camera, step)))
            if found[-1] < least_db:
                where = f"{path}: index {source.index}, camera {camera!r}, step {step}"
                raise CorruptionError(f"{where}: {found[-1]:.1f} dB, expected at least {least_db:g} dB")
    return found
