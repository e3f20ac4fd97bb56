"""HDF5 files that are laid out whole and then filled from outside, without HDF5 on the way.

Large arrays are contiguous, so bytes go to their place with one `pwrite`; every HDF5 reader reads such a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

# Arrays begin at a page [bytes].
_ALIGNMENT = 4096


def lay_out(path: Path, arrays: Mapping[str, tuple[int, ...]], fill: Callable[[h5py.File], None]) -> dict[str, int]:
    """Make a file with uint8 arrays that hold nothing yet; returns name → byte offset of each.

    arrays: name → shape. fill: writes all the rest, with h5py. The space is reserved, so a disk that is too full says
    so now. Raises OSError.
    """
    with h5py.File(path, "w", alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT, locking=False) as file:
        fill(file)
        links = h5p.create(h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        made = {}
        for name, shape in arrays.items():
            plan = h5p.create(h5p.DATASET_CREATE)
            plan.set_layout(h5d.CONTIGUOUS)
            plan.set_alloc_time(h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5d.FILL_TIME_NEVER)
            plan.set_obj_track_times(False)  # equal exports have equal bytes
            space, kind = h5s.create_simple(shape), h5t.py_create(np.dtype("u1"))
            made[name] = h5d.create(file.id, name.encode(), kind, space, plan, links)
        offsets = {name: int(dataset.get_offset()) for name, dataset in made.items()}
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, max(os.fstat(fd).st_size, 1))
    finally:
        os.close(fd)
    return offsets
