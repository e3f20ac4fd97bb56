"""ACT's and ACT++'s rules of reading an episode, written anew after their `utils.py` (MIT).

OpenCV's `imdecode` gives channels in BGR order; simplejpeg is asked for the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]


def act_sample(folder: Path, episode: int, start: int, cameras: list[str]) -> Sample:
    """images uint8[cameras, H, W, 3], qpos, padded action, is_pad: as `EpisodicDataset.__getitem__` makes them."""
    with h5py.File(folder / f"episode_{episode}.hdf5", "r") as root:
        is_sim, shape = root.attrs["sim"], root["/action"].shape
        qpos, _ = root["/observations/qpos"][start], root["/observations/qvel"][start]
        images = [root[f"/observations/images/{name}"][start] for name in cameras]
        if root.attrs.get("compress", False):
            images = [simplejpeg.decode_jpeg(bytes(row), colorspace="BGR", strict=False) for row in images]
        first = start if is_sim else max(0, start - 1)
        action = root["/action"][first:]
    padded, is_pad = np.zeros(shape, np.float32), np.zeros(shape[0], bool)
    padded[: len(action)], is_pad[len(action) :] = action, True
    return np.stack(images), qpos, padded, is_pad


def act_statistics(folder: Path, episodes: int) -> dict[str, Any]:
    """Mean and deviation as `get_norm_stats`: episodes are stacked, so all must be equally long."""
    qpos, action = [], []
    for episode in range(episodes):
        with h5py.File(folder / f"episode_{episode}.hdf5", "r") as root:
            qpos.append(root["/observations/qpos"][()])
            action.append(root["/action"][()])
    stacked = {"qpos": np.stack(qpos), "action": np.stack(action)}
    return {name: (each.mean((0, 1)), np.clip(each.std((0, 1)), 1e-2, np.inf)) for name, each in stacked.items()}
