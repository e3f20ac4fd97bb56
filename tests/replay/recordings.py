"""Small recorded datasets in other tools' formats, written by h5py alone, after those tools' own code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

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


def write_lerobot(folder: Path, video: bool) -> Path:
    """LeRobotDataset v3.0: all episodes in one table, the camera `top` as one video or as JPEGs in the table."""
    top = {"shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "observation.images.top": {"dtype": "video" if video else "image", **top},
        **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index")},
    }
    info = {
        "codebase_version": "v3.0",
        "fps": 20,
        "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    for name in ("meta/episodes/chunk-000", "data/chunk-000", "videos/observation.images.top/chunk-000"):
        (folder / name).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    pictures = [picture("top", episode, step) for episode, steps in enumerate(STEPS) for step in range(steps)]
    rows = [
        {
            "observation.state": (actions(episode) + 1)[step].tolist(),
            "action": actions(episode)[step].tolist(),
            "next.success": episode != 1 and step == steps - 1,
            "frame_index": step,
            "episode_index": episode,
            "index": sum(STEPS[:episode]) + step,
        }
        for episode, steps in enumerate(STEPS)
        for step in range(steps)
    ]
    if video:
        _write_video(folder / "videos/observation.images.top/chunk-000/file-000.mp4", pictures)
    else:
        for row, image in zip(rows, pictures, strict=True):
            row["observation.images.top"] = {"bytes": jpeg_bytes(image), "path": None}
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data/chunk-000/file-000.parquet")
    videos = "videos/observation.images.top"
    episodes = [
        {
            "episode_index": episode,
            "tasks": ["move the cube"],
            "length": steps,
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"{videos}/chunk_index": 0,
            f"{videos}/file_index": 0,
            f"{videos}/from_timestamp": sum(STEPS[:episode]) / 20,
        }
        for episode, steps in enumerate(STEPS)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(episodes), folder / "meta/episodes/chunk-000/file-000.parquet")
    return folder


def _write_video(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": "5", "g": "4"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
