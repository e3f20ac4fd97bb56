"""`python -m trainer.bench.write_files SETTINGS`: the episodes of a dataset as others keep them, in raw pixels.

Settings: data; act, a folder for one HDF5 file an episode, as the original ACT writes them; robomimic, a path for one
HDF5 file of all, as robomimic reads it. What is null is not written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from protocol.dataset_view import DatasetView
from protocol.shard_view import EpisodeView
from trainer.bench.turns import settings_of


def write(data: str, act: str | None, robomimic: str | None) -> None:
    """Write what is asked for."""
    with DatasetView(data) as view:
        for number, episode in enumerate(view.new_episodes()):
            images = {camera.name: _pixels(episode, camera.name) for camera in episode.shard.spec.cameras}
            if act:
                _write_act(Path(act) / f"episode_{number}.hdf5", episode, images)
            if robomimic:
                _append_robomimic(Path(robomimic), number, episode, images)


def _pixels(episode: EpisodeView, camera: str) -> NDArray[np.uint8]:
    return np.stack([episode.image(camera, step) for step in range(episode.steps)])


def _write_act(path: Path, episode: EpisodeView, images: dict[str, NDArray[np.uint8]]) -> None:
    """The layout of record_sim_episodes.py: a chunk for each image, nothing compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", rdcc_nbytes=2 << 20) as root:
        root.attrs["sim"] = True
        for name in ("observations/qpos", "observations/qvel", "action"):
            root.create_dataset(name, data=episode.column(name))
        for camera, pixels in images.items():
            root.create_dataset(f"observations/images/{camera}", data=pixels, chunks=(1, *pixels.shape[1:]))


def _append_robomimic(path: Path, number: int, episode: EpisodeView, images: dict[str, NDArray[np.uint8]]) -> None:
    """Contiguous, as robomimic's own scripts write it unless they are told to compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a", libver="latest") as root:
        demo = root.create_group(f"data/demo_{number}")
        demo.attrs["num_samples"] = episode.steps
        demo["actions"] = episode.column("action")
        demo["obs/qpos"] = episode.column("observations/qpos")
        for camera, pixels in images.items():
            demo[f"obs/{camera}"] = pixels
        root["data"].attrs["env_args"] = json.dumps({"env_name": "bench", "type": 1, "env_kwargs": {}})


if __name__ == "__main__":
    asked: dict[str, Any] = settings_of(sys.argv)
    write(asked["data"], asked["act"], asked["robomimic"])
