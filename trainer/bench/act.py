"""`python -m trainer.bench.act SETTINGS`: random samples the way the original ACT loads them, on one core.

Settings: folder, samples, chunk, batch, core. One sample an episode an epoch, a random step of it; the file is opened
for each; images become floats in [0, 1], as there (github.com/tonyzhaozh/act, utils.py, EpisodicDataset).
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.bench.turns import serve, settings_of

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class EpisodeFiles(Dataset[Item]):
    """images [cameras, 3, H, W] float32, qpos [14], actions [chunk, 14], is_pad [chunk]."""

    def __init__(self, folder: Path, chunk: int) -> None:
        self._paths = sorted(folder.glob("episode_*.hdf5"))
        self._chunk = chunk
        self._rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Item:
        with h5py.File(self._paths[index], "r") as root:
            length, width = root["action"].shape
            start = int(self._rng.integers(length))
            qpos = root["observations/qpos"][start]
            images = np.stack([camera[start] for camera in root["observations/images"].values()])
            # The original reads to the end of the episode; the chunk is what becomes of it.
            action = root["action"][start:]
        padded, is_pad = np.zeros((self._chunk, width), np.float32), np.ones(self._chunk, np.bool_)
        count = min(len(action), self._chunk)
        padded[:count], is_pad[:count] = action[:count], False
        pixels = torch.einsum("k h w c -> k c h w", torch.from_numpy(images)) / 255.0
        return pixels, torch.from_numpy(qpos).float(), torch.from_numpy(padded), torch.from_numpy(is_pad)


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Samples and seconds of one turn."""
    files = EpisodeFiles(Path(settings["folder"]), settings["chunk"])
    loader = DataLoader(files, batch_size=settings["batch"], shuffle=True)
    done, began = 0, time.perf_counter()
    while done < settings["samples"]:
        for batch in loader:
            done += len(batch[1])
            if done >= settings["samples"]:
                break
    return {"samples": done, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    chosen = settings_of(sys.argv)
    serve(chosen, partial(measure, chosen))
