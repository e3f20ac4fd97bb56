"""robomimic's dataset class and playback on a file that we wrote: `read_robomimic.py FILE TRUTH.npz VIDEO.mp4`.

In robomimic's environment; nothing of Headrace is imported.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

COLUMNS = {"qpos": "observations/qpos", "grid": "observations/grid"}
CAMERAS = ("front_image", "wrist_image")


def main(path: Path, truth: Any, video: Path) -> None:
    """Raises AssertionError."""
    prepare()
    lengths = [len(truth[f"{position}/action"]) for position in range(int(truth["count"]))]
    check_dataset(path, truth, lengths)
    say(
        f"SequenceDataset: every value and picture of {sum(lengths)} steps in {len(lengths)} demos; masks; a DataLoader"
    )
    check_playback(path, truth, lengths, video)
    say("playback_dataset --use-obs: a video with all frames")
    say("not checked: playback of states, because robosuite is not in this environment")


def prepare() -> None:
    """torchvision's compiled operators may not load beside this torch; nothing here uses them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    names = {"obs": {"low_dim": list(COLUMNS), "rgb": list(CAMERAS)}}
    utils: Any = importlib.import_module("robomimic.utils.obs_utils")
    utils.initialize_obs_utils_with_obs_specs(obs_modality_specs=[names])


def check_dataset(path: Path, truth: Any, lengths: list[int]) -> None:
    """Each item, and what the file says about itself."""
    dataset = opened(path)
    assert (dataset.n_demos, len(dataset)) == (len(lengths), sum(lengths))
    number = 0
    for position, length in enumerate(lengths):
        for step in range(length):
            item = dataset[number]
            np.testing.assert_allclose(item["actions"][0], truth[f"{position}/action"][step])
            for name, column in COLUMNS.items():
                np.testing.assert_array_equal(item["obs"][name][0].ravel(), truth[f"{position}/{column}"][step].ravel())
            for name in CAMERAS:
                found = item["obs"][name][0]
                np.testing.assert_array_equal(found, truth[f"{position}/{name.removesuffix('_image')}"][step])
            number += 1
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)))
    assert batch["obs"]["front_image"].shape[:2] == (8, 1)
    assert len(opened(path, "train")) + len(opened(path, "valid")) == len(dataset)
    utils: Any = importlib.import_module("robomimic.utils.file_utils")
    assert utils.get_env_metadata_from_dataset(str(path))["env_name"] == "Arm"


def opened(path: Path, mask: str | None = None) -> Any:
    """robomimic's SequenceDataset."""
    return importlib.import_module("robomimic.utils.dataset").SequenceDataset(
        hdf5_path=str(path),
        obs_keys=(*COLUMNS, *CAMERAS),
        dataset_keys=("actions", "rewards", "dones"),
        load_next_obs=False,
        filter_by_attribute=mask,
    )


def check_playback(path: Path, truth: Any, lengths: list[int], video: Path) -> None:
    """The script that people look at a dataset with."""
    asked = {"dataset": str(path), "video_path": str(video), "render_image_names": ["front_image"], "video_skip": 1}
    left = {"filter_key": None, "n": None, "render": False, "use_actions": False, "first": False}
    playback: Any = importlib.import_module("robomimic.scripts.playback_dataset")
    playback.playback_dataset(Namespace(use_obs=True, **asked, **left))
    reader: Any = importlib.import_module("imageio").get_reader(str(video))
    frames = [np.asarray(frame) for frame in reader]
    assert len(frames) == sum(lengths)
    # The writer makes the sides multiples of 16; the first camera's are. Video is lossy [levels of 255].
    assert np.abs(frames[0].astype(int) - truth["0/front"][0]).mean() < 12


def say(text: str) -> None:
    """A line of the report; what libraries print has no star."""
    sys.stdout.write(f"* {text}\n")


if __name__ == "__main__":
    with np.load(sys.argv[2], allow_pickle=False) as arrays:
        main(Path(sys.argv[1]), dict(arrays), Path(sys.argv[3]))
