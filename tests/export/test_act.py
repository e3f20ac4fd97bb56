"""`headrace export act`, read back by ACT's own rules."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from tests.datasets import Recorded
from tests.export.act_reader import act_sample, act_statistics
from tests.export.arm import NEAR, SPEC, check_corners, make, stored

CAMERAS = [camera.name for camera in SPEC.cameras]
STEPS = {7: 5, 2: 8, 4: 3}  # index → steps; committed in this order


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    episodes = [Recorded(index, steps) for index, steps in STEPS.items()]
    return make(tmp_path_factory.mktemp("arm"), [*episodes, Recorded(5, outcome=Outcome.VOID)])


def export(data: Path, out: Path, *words: str) -> int:
    return headrace(["export", "act", "--data", str(data), "--out", str(out), "--workers", "1", *words])


def test_what_acts_reader_finds_is_what_was_stored(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.glob("*.hdf5")) == [f"episode_{n}.hdf5" for n in range(3)]
    truth = stored(data)
    for episode, index in enumerate(sorted(STEPS)):
        for step in range(STEPS[index]):
            images, qpos, action, is_pad = act_sample(tmp_path, episode, step, CAMERAS)
            for camera, image in zip(CAMERAS, images, strict=True):
                np.testing.assert_array_equal(image, truth[index][camera][step])
                check_corners(image)
            np.testing.assert_array_equal(qpos, truth[index]["observations/qpos"][step].astype(np.float32))
            np.testing.assert_array_equal(action[: STEPS[index] - step], truth[index]["action"][step:])
            assert is_pad.sum() == step


def test_equal_length_holds_the_last_of_everything(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--equal-length") == 0
    assert act_statistics(tmp_path, 3)["action"][0].shape == (2,)
    with h5py.File(tmp_path / "episode_1.hdf5") as file:  # index 4, of 3 steps
        assert file.attrs["steps"] == 3
        for name in ("action", "observations/qpos", "observations/images/front"):
            assert len(file[name]) == 8
            assert (file[name][3:] == file[name][2]).all()


def test_act_plus_plus_gets_rgb_from_opencv(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--compress", "--cameras", "wrist", "front") == 0
    truth = stored(data)[2]
    with h5py.File(tmp_path / "episode_0.hdf5") as file:
        images = file["observations/images/wrist"]
        assert file.attrs["compress"]
        assert file["compress_len"].shape == (2, 8)
        assert file["compress_len"][0].max() == images.shape[1] == images.chunks[1]
        assert not images[0, int(file["compress_len"][0, 0]) :].any()
    found, *_ = act_sample(tmp_path, 0, 6, CAMERAS)
    check_corners(found[0])
    assert np.abs(found[0].astype(int) - truth["front"][6]).mean() < NEAR / 4


def test_copied_jpegs_are_the_stored_bytes_and_true_for_viewers(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--compress", "--copy-jpeg") == 0
    found, *_ = act_sample(tmp_path, 0, 6, CAMERAS)
    np.testing.assert_array_equal(found[1][..., ::-1], stored(data)[2]["wrist"][6])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cameras", "side"), "no camera 'side'; it has: front, wrist"),
        (("--qpos", "joints"), "no column 'joints'; name another with --qpos"),
        (("--length", "6"), "an episode has 8 steps; give at least that"),
        (("--follow", "--equal-length"), "give --length STEPS"),
    ],
)
def test_what_cannot_be_written_is_said_before(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert export(data, tmp_path, *words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
