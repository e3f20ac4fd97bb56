"""One growing HDF5 file in single-writer-multiple-reader mode: what h5py itself offers for reading while writing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deploy.bench.peers.episodes import Episode
from deploy.bench.peers.plan import COLUMN_WIDTH

FILE_NAME = "dataset.h5"
# Several frames a chunk, and several chunks in HDF5's default cache of 1 MiB.
_BLOB_CHUNK = 256 << 10
_ROWS_CHUNK = 1024


class SwmrFile:
    """JPEG bytes back to back in `blob`, where they lie in `observations/images/<camera>`, ends of episodes in `ends`.

    Every step resizes and writes each dataset; every episode ends with a flush. SWMR allows no variable-length data.
    `after_step(number, step)` is called after each step.
    """

    pixels = False

    def __init__(
        self, folder: Path, cameras: Sequence[str], sync: bool, after_step: Callable[[int, int], None]
    ) -> None:
        self._sync, self._after_step = sync, after_step
        self._file = h5py.File(folder / FILE_NAME, "w", libver="latest")
        self._blob = self._growing("blob", (), np.uint8, _BLOB_CHUNK)
        self._ends = self._growing("ends", (), np.int64, _ROWS_CHUNK)
        self._qpos = self._growing("observations/qpos", (COLUMN_WIDTH,), np.float32, _ROWS_CHUNK)
        self._action = self._growing("action", (COLUMN_WIDTH,), np.float32, _ROWS_CHUNK)
        self._frames = {
            camera: self._growing(f"observations/images/{camera}", (2,), np.int64, _ROWS_CHUNK) for camera in cameras
        }
        self._file.swmr_mode = True  # from here on no object can be made

    def write(self, episode: Episode) -> None:
        """Append an episode, step by step."""
        for step in range(len(episode.qpos)):
            for camera, images in episode.images.items():
                place = (self._blob.shape[0], images[step].size)
                _append(self._blob, images[step])
                _append(self._frames[camera], np.array([place]))
            _append(self._qpos, episode.qpos[step : step + 1])
            _append(self._action, episode.action[step : step + 1])
            self._after_step(episode.number, step)
        _append(self._ends, np.array([self._qpos.shape[0]]))
        self._file.flush()
        if self._sync:
            os.fsync(self._file.id.get_vfd_handle())

    def close(self) -> None:
        """Leave the mode and close."""
        self._file.close()

    def _growing(self, name: str, shape: tuple[int, ...], dtype: Any, chunk: int) -> Any:
        layout = {"maxshape": (None, *shape), "chunks": (chunk, *shape), "dtype": dtype}
        return self._file.create_dataset(name, (0, *shape), **layout)


def _append(dataset: Any, rows: Any) -> None:
    first = dataset.shape[0]
    dataset.resize(first + len(rows), axis=0)
    dataset[first:] = rows
