"""Creating a shard: the only moment at which HDF5 writes."""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from protocol.errors import DatasetError, DiskFullError
from protocol.layout import (
    FORMAT_VERSION,
    PACKED_VERSION,
    SHARD_NAME,
    Capacity,
    ShardLayout,
    dataset_names,
    dataset_type,
    shard_bytes,
    stored_metadata_checksum,
)
from protocol.packing import Packing
from protocol.spec import StreamSpec
from sink.disk import Disk

PREPARING = ".preparing"
# Datasets begin at a page, so that no write of one touches the page of another.
_ALIGNMENT = 4096
# Left free on the file system after a reservation: room for the logs of others.
DISK_RESERVE_BYTES = 64 << 20


def create_shard(
    folder: Path, number: int, spec: StreamSpec, capacity: Capacity, dataset_uuid: str, disk: Disk | None = None
) -> ShardLayout:
    """Make the file whole, reserve its space, sync it and give it its name. Raises DiskFullError, DatasetError."""
    disk = disk or Disk()
    path = folder / SHARD_NAME.format(number)
    draft = path.with_name(path.name + PREPARING)
    if path.exists():
        raise DatasetError(f"{path} exists already; a shard is never replaced")
    needed = shard_bytes(spec, capacity)
    free = shutil.disk_usage(folder).free
    if free < needed + DISK_RESERVE_BYTES:
        raise _disk_full(path, needed, free)
    quota = disk.quota
    if quota is not None and (left := quota.left_bytes) < needed:
        raise DiskFullError(
            f"disk full: {path} needs {needed / 1e6:.1f} MB, {max(left, 0) / 1e6:.1f} MB are left of the quota of "
            f"{quota.limit_bytes / 1e6:.1f} MB; free some space below {quota.root} (collection goes on by itself), or "
            "start the sink with a larger --quota-mib"
        )
    try:
        write_metadata(draft, Identity(number, dataset_uuid, time.time_ns()), spec, capacity)
        _make_durable(disk, draft)
    except OSError as error:
        if draft.exists():
            disk.remove(draft)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, needed, shutil.disk_usage(folder).free) from error
        raise
    disk.rename(draft, path)
    disk.sync_directory(folder)
    return ShardLayout.read(path)


def _make_durable(disk: Disk, draft: Path) -> None:
    fd = disk.open(draft)
    try:
        disk.reserve(fd)
        disk.sync(fd)
    finally:
        disk.close(fd)


def _disk_full(path: Path, needed: int, free: int) -> DiskFullError:
    return DiskFullError(
        f"disk full: {path} needs {(needed + DISK_RESERVE_BYTES) / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; "
        "free some space (collection goes on by itself), or start the sink with a smaller --shard-mib"
    )


@dataclass(frozen=True)
class Identity:
    """Which shard of which dataset. packing: how its frames are stored; None: as JPEG."""

    number: int
    dataset_uuid: str
    created_ns: int
    packing: Packing | None = None


def write_metadata(path: Path, identity: Identity, spec: StreamSpec, capacity: Capacity) -> None:
    """Make the file: its attributes, and all datasets with their places. Neither reserved nor durable yet."""
    with h5py.File(path, "w", alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT, locking=False) as file:
        file.attrs["format_version"] = FORMAT_VERSION if identity.packing is None else PACKED_VERSION
        file.attrs["stream_spec"] = np.bytes_(spec.to_json())
        file.attrs["step_capacity"] = capacity.steps
        file.attrs["shard"] = identity.number
        file.attrs["dataset_uuid"] = np.bytes_(identity.dataset_uuid.encode())
        file.attrs["created_ns"] = identity.created_ns
        if identity.packing is not None:
            file.attrs["packing"] = np.bytes_(identity.packing.to_json())
        links = h5p.create(h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        for name in dataset_names(spec):
            dtype, shape = dataset_type(spec, capacity, name)
            plan = h5p.create(h5p.DATASET_CREATE)
            plan.set_layout(h5d.CONTIGUOUS)
            # Early and never: the place is fixed now, and nothing is written to it.
            plan.set_alloc_time(h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5d.FILL_TIME_NEVER)
            space = h5s.create_simple(shape)
            h5d.create(file.id, name.encode(), h5t.py_create(dtype, logical=True), space, plan, links)
        file.attrs["metadata_checksum"] = np.uint64(stored_metadata_checksum(file, spec))
