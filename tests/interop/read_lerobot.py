"""LeRobot's own reader on a dataset that we wrote, in LeRobot's environment: `read_lerobot.py DATASET TRUTH.npz`.

It prints what was checked, and what was not. Nothing of Headrace is imported.
"""

from __future__ import annotations

import importlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Mean difference from the decoded JPEG [levels of 255]: video is lossy, a JPEG is not encoded again.
NEAR = {"video": 6.0, "image": 0.01}
COLUMNS = {
    "action": "action",
    "observation.state": "observations/qpos",
    "observation.grid": "observations/grid",
    "contact": "contact",
    "states": "states",
}


def main(root: Path, truth: Any) -> None:
    """Raises AssertionError."""
    library = _library()
    dataset = library.LeRobotDataset("any/name", root=root, video_backend="pyav")
    lengths = [len(truth[f"{position}/action"]) for position in range(int(truth["count"]))]
    assert (dataset.num_episodes, len(dataset), dataset.fps) == (len(lengths), sum(lengths), truth["rate_hz"])
    check_frames(dataset, truth, lengths)
    say(f"every value and picture of {len(dataset)} steps in {len(lengths)} episodes, at its time, upright, in RGB")
    check_choices(library, root, truth, lengths)
    say("one episode alone; delta_timestamps of actions and pictures with padding; a shuffled DataLoader")
    check_statistics(dataset, truth, lengths)
    say("statistics and quantiles of each episode and of the dataset, as LeRobot computes them")
    say("not compared with LeRobot but with numpy: the standard deviation of pictures, where LeRobot's uint8 overflow")


def check_frames(dataset: Any, truth: Any, lengths: list[int]) -> None:
    """Each item of the dataset is what was stored."""
    index = 0
    kinds = {key: dataset.features[key]["dtype"] for key in dataset.meta.camera_keys}
    for position, length in enumerate(lengths):
        for step in range(length):
            item = dataset[index]
            place = (item["episode_index"].item(), item["frame_index"].item(), item["index"].item(), item["task"])
            assert place == (position, step, index, str(truth[f"{position}/task"])), place
            assert abs(item["timestamp"].item() - step / dataset.fps) < 1e-6
            for key, column in COLUMNS.items():
                np.testing.assert_array_equal(item[key].numpy(), truth[f"{position}/{column}"][step])
            for key, kind in kinds.items():
                check_picture(item[key], truth[f"{position}/{key.rsplit('.', 1)[1]}"][step], NEAR[kind])
            index += 1


def check_picture(found: Any, expected: Any, near: float) -> None:
    """found: float32[3, H, W] from 0 to 1."""
    image = (found * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(image - expected).mean() < near
    height, width = image.shape[:2]
    colours = {(4, 4): (255, 0, 0), (4, width - 5): (0, 255, 0), (height - 5, width - 5): (0, 0, 255)}
    for place, colour in colours.items():
        assert np.abs(image[place] - colour).max() < 24, f"at {place}: expected {colour}, found {image[place]}"


def check_choices(library: Any, root: Path, truth: Any, lengths: list[int]) -> None:
    """What training asks for."""
    camera = "observation.images.front"
    asked = {"action": [0, 0.02, 0.04], camera: [-0.02, 0]}
    last = len(lengths) - 1
    dataset = library.LeRobotDataset("any/name", root, episodes=[last], delta_timestamps=asked, video_backend="pyav")
    assert len(dataset) == lengths[last]
    item = dataset[lengths[last] - 2]
    np.testing.assert_array_equal(item["action"].numpy(), truth[f"{last}/action"][[-2, -1, -1]])
    assert item["action_is_pad"].tolist() == [False, False, True]
    for offset, picture in zip((-3, -2), item[camera], strict=True):
        check_picture(picture, truth[f"{last}/front"][offset], NEAR["video"])
    whole = library.LeRobotDataset("any/name", root, video_backend="pyav")
    batch = next(iter(torch.utils.data.DataLoader(whole, batch_size=8, shuffle=True)))
    assert batch[camera].shape == (8, 3, 48, 64)


def check_statistics(dataset: Any, truth: Any, lengths: list[int]) -> None:
    """LeRobot's own computation on the same pictures and numbers."""
    compute = importlib.import_module("lerobot.datasets.compute_stats")
    stored = _stored_statistics(dataset.root)
    parts, begin = [], 0
    for position, length in enumerate(lengths):
        with tempfile.TemporaryDirectory() as folder:
            numbers = _numbers(dataset, truth, position, begin, length)
            pictures = {key: _files(Path(folder), key, truth, position) for key in dataset.meta.camera_keys}
            theirs = compute.compute_episode_stats({**numbers, **pictures}, dataset.features)
        for key in dataset.meta.camera_keys:
            theirs[key]["std"] = _right_std(truth[f"{position}/{key.rsplit('.', 1)[1]}"])
        compare(stored[position], theirs, f"episode {position}")
        parts.append(theirs)
        begin += length
    compare(dataset.meta.stats, compute.aggregate_stats(parts), "dataset")


def compare(ours: Any, theirs: Any, where: str) -> None:
    """LeRobot computes in 32 bits, so that means and the edges of its bins differ in the last digits."""
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    for key, stats in theirs.items():
        for name, expected in stats.items():
            found, expected = np.asarray(ours[key][name], float), np.asarray(expected, float)
            assert found.shape == expected.shape, f"{where}, {key} {name}: shape {found.shape}, {expected.shape}"
            scale = float(np.ptp(np.stack([stats["min"], stats["max"]]).astype(float))) or 1.0
            # A quantile lies in one of 5000 bins; rounding may put a value into the next.
            off = np.abs(found - expected).max() / scale
            assert off < 4e-4, f"{where}, {key} {name}: found {found.ravel()[:4]}, LeRobot's {expected.ravel()[:4]}"


def _right_std(frames: Any) -> Any:
    """float64[3, 1, 1]: LeRobot 0.4 squares uint8 in uint8, where it overflows, and finds 0 or NaN."""
    compute = importlib.import_module("lerobot.datasets.compute_stats")
    chosen = [compute.auto_downsample_height_width(frames[step].transpose(2, 0, 1)) for step in _sampled(len(frames))]
    return np.stack(chosen).astype(float).std(axis=(0, 2, 3)).reshape(3, 1, 1) / 255


def _sampled(count: int) -> list[int]:
    return list(importlib.import_module("lerobot.datasets.compute_stats").sample_indices(count))


def _numbers(dataset: Any, truth: Any, position: int, begin: int, length: int) -> dict[str, Any]:
    columns = {key: truth[f"{position}/{name}"] for key, name in COLUMNS.items()}
    tasks = [dataset.meta.get_task_index(str(truth[f"{position}/task"]))] * length
    return {
        **{key: values[:, None] if values.ndim == 1 else values for key, values in columns.items()},
        "timestamp": (np.arange(length) / dataset.fps).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, position),
        "index": np.arange(begin, begin + length),
        "task_index": np.array(tasks),
    }


def _files(folder: Path, key: str, truth: Any, position: int) -> list[str]:
    image = importlib.import_module("PIL.Image")
    names = []
    for step, pixels in enumerate(truth[f"{position}/{key.rsplit('.', 1)[1]}"]):
        names.append(str(folder / f"{key}_{step:06d}.png"))
        image.fromarray(pixels).save(names[-1], compress_level=1)
    return names


def _stored_statistics(root: Path) -> list[dict[str, Any]]:
    parquet = importlib.import_module("pyarrow.parquet")
    rows = [
        row
        for path in sorted((root / "meta/episodes").rglob("*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    made = []
    for row in rows:
        stats: dict[str, Any] = {}
        for name, value in row.items():
            if name.startswith("stats/"):
                _, key, kind = name.split("/")
                stats.setdefault(key, {})[kind] = value
        made.append(stats)
    return made


def _library() -> Any:
    """LeRobot. torchvision's compiled operators do not load beside this torch; LeRobot's reader uses none of them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        say("not checked: torchcodec as the decoder (pyav is taken); torchvision's compiled operators are not there")
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("lerobot.datasets.lerobot_dataset")


def say(text: str) -> None:
    """A line of the report; what libraries print has no star."""
    sys.stdout.write(f"* {text}\n")


if __name__ == "__main__":
    with np.load(io.BytesIO(Path(sys.argv[2]).read_bytes()), allow_pickle=False) as arrays:
        main(Path(sys.argv[1]), dict(arrays))
