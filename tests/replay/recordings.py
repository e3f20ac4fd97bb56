"""Small recorded datasets in other tools' formats, written by h5py alone, after those tools' own code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 48, 64
STEPS = (6, 9, 7)
CAMERAS = ("top", "wrist")


def picture(camera: str, episode: int, step: int) -> NDArray[np.uint8]:
    """No flip and no exchange of channels leaves it as it is: red in the left upper corner, green right, blue below."""
    image = np.full((HEIGHT, WIDTH, 3), 16 * CAMERAS.index(camera), np.uint8)
    image[:16, :16] = (255, 0, 0)
    image[:16, -16:] = (0, 255, 0)
    image[-16:, :16] = (0, 0, 255)
    image[16:32, 16:32] = (40 + 20 * episode, 40 + 10 * step, 128)
    return image


def jpeg_bytes(image: NDArray[np.uint8]) -> bytes:
    """By Pillow, not by the code under test."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    """By Pillow, not by the code under test."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def actions(episode: int) -> NDArray[np.float32]:
    """float32[T, 2] that names its episode."""
    return (np.arange(STEPS[episode] * 2, dtype=np.float32).reshape(-1, 2) + 100 * episode) / 8


def write_act(folder: Path, compress: bool) -> Path:
    """`episode_{i}.hdf5` as ACT records them, or as ACT++ with padded JPEGs."""
    folder.mkdir(parents=True)
    for episode, steps in enumerate(STEPS):
        with h5py.File(folder / f"episode_{episode}.hdf5", "w") as file:
            file.attrs["sim"] = True
            if compress:
                file.attrs["compress"] = True
            file["action"] = actions(episode)
            file["observations/qpos"] = actions(episode) + 1
            file["observations/qvel"] = actions(episode).astype(np.float64) + 2
            lengths = np.zeros((len(CAMERAS), steps))
            for number, camera in enumerate(CAMERAS):
                images = [picture(camera, episode, step) for step in range(steps)]
                if not compress:
                    file[f"observations/images/{camera}"] = np.stack(images)
                    continue
                frames = [jpeg_bytes(image) for image in images]
                lengths[number] = [len(frame) for frame in frames]
                longest = max(map(len, frames)) + 5
                rows = [np.frombuffer(frame.ljust(longest, b"\0"), np.uint8) for frame in frames]
                file[f"observations/images/{camera}"] = np.stack(rows)
            if compress:
                file["compress_len"] = lengths
    return folder


def write_robomimic(path: Path) -> Path:
    """One file as robomimic documents it; the second demonstration is the one without a reward."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for episode, steps in enumerate(STEPS):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = "<mujoco/>"
            demo["actions"] = actions(episode)
            demo["states"] = actions(episode).astype(np.float64)
            demo["rewards"] = np.eye(1, steps, steps - 1)[0] * (episode != 1)
            demo["dones"] = np.eye(1, steps, steps - 1, dtype=np.int64)[0]
            for group, shift in (("obs", 0), ("next_obs", 1)):
                demo[f"{group}/robot0_eef_pos"] = actions(episode) + shift
                images = [picture("top", episode, step + shift) for step in range(steps)]
                demo[f"{group}/top_image"] = np.stack(images)
    return path
