"""The usual script: one HDF5 file for each episode, in the layout of ACT's record_sim_episodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deploy.bench.peers.episodes import Episode, Image

_GZIP_LEVEL = 4
# As ACT's script has it: room for two frames.
_CHUNK_CACHE_BYTES = 2 << 20


class EpisodeFiles:
    """Writes `episode_{number}.hdf5` when an episode has ended, as the script does.

    With `pixels` images go to uint8[T, H, W, 3] with gzip, a chunk for each frame; without, their JPEG bytes go to a
    variable-length uint8[T] as they are. `after_step(number, step)` is called after each frame of the first camera.
    """

    def __init__(self, folder: Path, pixels: bool, sync: bool, after_step: Callable[[int, int], None]) -> None:
        self._folder, self.pixels, self._sync, self._after_step = folder, pixels, sync, after_step

    def write(self, episode: Episode) -> None:
        """One file."""
        path = self._folder / f"episode_{episode.number}.hdf5"
        with h5py.File(path, "w", rdcc_nbytes=_CHUNK_CACHE_BYTES) as root:
            root.attrs["sim"] = True
            root.create_dataset("observations/qpos", data=episode.qpos)
            root.create_dataset("action", data=episode.action)
            made = {
                camera: self._dataset(root, f"observations/images/{camera}", len(images), images[0])
                for camera, images in episode.images.items()
            }
            for place, (camera, images) in enumerate(episode.images.items()):
                for step, image in enumerate(images):
                    made[camera][step] = image
                    if place == 0:
                        self._after_step(episode.number, step)
        if self._sync:
            # The file's bytes, then its name: only both together outlive a loss of power.
            _fsync(path)
            _fsync(self._folder)

    def close(self) -> None:
        """Every file is closed already."""

    def _dataset(self, root: Any, name: str, steps: int, first: Image) -> Any:
        if not self.pixels:
            return root.create_dataset(name, (steps,), dtype=h5py.vlen_dtype(np.uint8))
        layout = {"chunks": (1, *first.shape), "compression": "gzip", "compression_opts": _GZIP_LEVEL}
        return root.create_dataset(name, (steps, *first.shape), dtype=np.uint8, **layout)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
