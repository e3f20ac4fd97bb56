"""An empty mirror of a shard: the HDF5 metadata of the source, and holes for all else."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path

from protocol.errors import CorruptionError
from protocol.layout import ShardLayout, dataset_type
from sink.disk import Disk
from sink.shard_file import PREPARING


def make_empty(disk: Disk, source: ShardLayout, path: Path) -> None:
    """Make it whole under another name, sync it, and give it its name. Raises CorruptionError."""
    draft = path.with_name(path.name + PREPARING)
    with ExitStack() as undo:
        there = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, there)
        here = disk.open(draft, create=True)
        undo.callback(disk.close, here)
        end = os.fstat(there).st_size
        disk.write(here, [b"\0"], end - 1)
        for start, size in _metadata_places(source, end):
            disk.write(here, [os.pread(there, size, start)], start)
        disk.sync(here)
    if replace(ShardLayout.read(draft), path=source.path) != source:
        raise CorruptionError(f"{source.path}: its HDF5 metadata read differently each time; is this disk failing?")
    disk.rename(draft, path)
    disk.sync_directory(path.parent)


def _metadata_places(layout: ShardLayout, end: int) -> list[tuple[int, int]]:
    """(start, size) of what lies between the datasets of a file."""
    places, last = [], 0
    for name, start in sorted(layout.offsets.items(), key=lambda place: place[1]):
        dtype, shape = dataset_type(layout.spec, layout.capacity, name)
        if start > last:
            places.append((last, start - last))
        last = max(last, start + dtype.itemsize * prod(shape))
    return [*places, (last, end - last)] if end > last else places
