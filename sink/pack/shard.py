"""One full shard, written again with video in place of its JPEGs. All else is as it was, at other places."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from protocol.checksum import episode_checksum, frame_checksum, rows_checksum
from protocol.errors import CorruptionError, DatasetError
from protocol.layout import (
    FRAME,
    Capacity,
    Rows,
    ShardLayout,
    read_rows,
    read_seal,
    seal_row,
)
from protocol.shard_view import EpisodeView, ShardView
from sink.content_audit import ContentAudit
from sink.disk import Disk
from sink.pack.encoder import Quality, Video, encode
from sink.row_audit import check_rows, read_frame_table
from sink.shard_audit import UnreadableError, audit_shard
from sink.shard_file import Identity, write_metadata

_PIECE_BYTES = 8 << 20
_UNKNOWN_BYTES = 0xFFFFFFFF
# Cameras of episodes that are encoded ahead of the one that is written, for each thread.
_AHEAD = 2


@dataclass(frozen=True)
class Work:
    """What packing one shard needs. on_frames: told how many frames are done, from one thread."""

    disk: Disk
    pool: ThreadPoolExecutor
    jobs: int
    quality: Quality
    on_frames: Callable[[int], object] = lambda _: None


def check_sound(path: Path, pool: ThreadPoolExecutor) -> None:
    """Compare all of a shard with its checksums, as `headrace verify` does. Raises CorruptionError."""
    try:
        shard = audit_shard(path)
    except UnreadableError as error:
        raise CorruptionError(str(error)) from error
    try:
        shard.faults += check_rows(shard)
        content = ContentAudit(shard, read_frame_table(shard), lambda _: None)
        faults = [*shard.faults, *content.run(pool)]
    except UnreadableError as error:
        raise CorruptionError(str(error)) from error
    finally:
        shard.close()
    if faults:
        raise CorruptionError(f"{faults[0]}; a damaged shard is not packed, `headrace verify` lists all that is wrong")


def write_packed(source: Path, draft: Path, work: Work) -> None:
    """Write the packed copy of a sealed, sound shard to `draft`, and sync it. Raises DatasetError, OSError."""
    with ShardView(source) as shard, tempfile.TemporaryFile(dir=draft.parent) as spool:
        packed = _Packed(shard, spool)
        for number, videos in _encoded(shard, work):
            packed.add(shard.episode(number), videos)
        write_metadata(draft, _identity(shard, work.quality), shard.spec, packed.capacity)
        fd = work.disk.open(draft)
        try:
            packed.write(work.disk, fd, ShardLayout.read(draft))
            work.disk.sync(fd)
        finally:
            work.disk.close(fd)


def seal_of(shard: ShardView) -> np.void:
    """The seal of a shard that has one."""
    with shard.layout.path.open("rb", buffering=0) as file:
        seal = read_seal(file.fileno(), shard.layout)
    if seal is None:
        raise DatasetError(f"{shard.layout.path} is not sealed; it may still grow")
    return seal


def documents_of(shard: ShardView) -> Rows:
    """DOCUMENT[n]: those that count."""
    with shard.layout.path.open("rb", buffering=0) as file:
        rows = read_rows(file.fileno(), shard.layout, "documents", 0)
    inside: Rows = rows[rows["offset"] + rows["size"] <= shard.rows["blob_end"].max(initial=0)]
    return inside


def _identity(shard: ShardView, quality: Quality) -> Identity:
    with h5py.File(shard.layout.path, "r", locking=False) as file:
        created_ns = int(file.attrs["created_ns"])
    return Identity(shard.layout.number, shard.layout.dataset_uuid, created_ns, quality.packing)


def _encoded(shard: ShardView, work: Work) -> Iterator[tuple[int, list[Video]]]:
    """(row, videos by camera) of each episode, in order; some are encoded ahead, on all cores."""
    waiting: deque[tuple[int, list[Future[Video]]]] = deque()
    try:
        for number in range(len(shard)):
            episode = shard.episode(number)
            cameras = shard.cameras if episode.steps else ()
            waiting.append((number, [work.pool.submit(_encode, episode, name, work.quality) for name in cameras]))
            while sum(len(futures) for _, futures in waiting) > _AHEAD * work.jobs:
                yield _finished(waiting.popleft(), work)
        while waiting:
            yield _finished(waiting.popleft(), work)
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _finished(item: tuple[int, list[Future[Video]]], work: Work) -> tuple[int, list[Video]]:
    videos = [future.result() for future in item[1]]
    work.on_frames(sum(len(video.packets) for video in videos))
    return item[0], videos


def _encode(episode: EpisodeView, camera: str, quality: Quality) -> Video:
    def jpegs() -> Iterator[bytes]:
        return (episode.frame(camera, step) for step in range(episode.steps))

    try:
        return encode(jpegs, episode.steps, episode.shard.cameras[camera], quality)
    except DatasetError as error:
        raise DatasetError(f"{episode.shard.layout.path}: index {episode.index}: {error}") from error


class _Packed:
    """Rows, tables and documents of the packed shard, in memory; its blob, in a file without a name."""

    def __init__(self, shard: ShardView, spool: IO[bytes]) -> None:
        self._shard, self._spool, self._tail = shard, spool, 0
        self._rows = shard.rows.copy()
        self._seal = seal_of(shard).copy()
        steps = max(int(self._seal["steps"]), 1)
        self._tables = {name: np.zeros(steps, FRAME) for name in shard.cameras}
        self._documents = documents_of(shard).copy()
        for number, row in enumerate(self._documents):
            row["offset"] = self._append(shard.blob(int(row["offset"]), int(row["size"])))
            seal_row(row, number)
        # As many as are in use; HDF5 gives a place to datasets with rows only.
        self.steps, self._episodes = steps, max(len(self._rows), 1)

    @property
    def capacity(self) -> Capacity:
        """Of the packed shard: what it uses."""
        return Capacity(max(self._tail, 1), self.steps, self._episodes, max(len(self._documents), 1))

    def add(self, episode: EpisodeView, videos: list[Video]) -> None:
        """The next episode, with a video for each camera."""
        row, first = self._rows[episode.number], int(episode.row["first_step"])
        size = 0
        for name, video in zip(self._shard.cameras, videos, strict=False):
            table = self._tables[name][first : first + episode.steps]
            for place, packet in zip(range(len(table)), video.packets, strict=True):
                table[place] = (self._append(packet), len(packet), frame_checksum(packet))
                size += len(packet)
        attributes = self._shard.blob(int(row["attributes_offset"]), int(row["attributes_size"]))
        row["attributes_offset"], row["frames_bytes"] = self._append(attributes), min(size, _UNKNOWN_BYTES)
        checksums = [table["checksum"][first : first + episode.steps].copy() for table in self._tables.values()]
        columns = [episode.column(column.name) for column in self._shard.spec.columns] if episode.steps else []
        row["data_checksum"] = episode_checksum(checksums, columns, attributes)
        row["blob_end"] = self._tail
        seal_row(row, episode.number)

    def write(self, disk: Disk, fd: int, layout: ShardLayout) -> None:
        """All of it, into the new file."""
        places = layout.offsets
        used = int(self._seal["steps"])
        for column in self._shard.spec.columns:
            name = f"steps/{column.name}"
            disk.write(fd, [self._shard.steps(name, 0, used).tobytes()], places[name])
        for camera, table in self._tables.items():
            disk.write(fd, [table.tobytes()], places[f"steps/images/{camera}"])
        self._spool.seek(0)
        at = places["blob"]
        while piece := self._spool.read(_PIECE_BYTES):
            disk.write(fd, [piece], at)
            at += len(piece)
        rows = self._rows.tobytes()
        self._seal["blob"], self._seal["rows_checksum"] = self._tail if len(self._rows) else 0, rows_checksum(rows)
        seal = self._seal.reshape(1)
        seal_row(seal[0], 0)
        disk.write(fd, [self._documents.tobytes()], places["documents"])
        disk.write(fd, [rows], places["episodes"])
        disk.write(fd, [seal.tobytes()], places["seal"])

    def _append(self, data: bytes) -> int:
        at = self._tail
        self._spool.write(data)
        self._tail += len(data)
        return at
