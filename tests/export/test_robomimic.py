"""`headrace export robomimic`: what robomimic's SequenceDataset opens, and how. Its own reader: tests/interop."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from tests.datasets import MODEL, Recorded
from tests.export.arm import check_corners, files, make, stored
from tests.processes import Process, wait_until

ENVIRONMENT = {"env_name": "Arm", "type": 1, "env_kwargs": {"control_freq": 50}, "env_version": "1"}


def recorded(index: int, **changes: object) -> Recorded:
    outcome = Outcome.FAILURE if index == 3 else Outcome.SUCCESS
    return Recorded(index, 3 + index, outcome, {"env_args": ENVIRONMENT, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("arm"), [recorded(index) for index in (4, 3, 5)], actions=0.01)


def export(data: Path, out: Path, *words: str) -> int:
    common = ["--data", str(data), "--out", str(out), "--workers", "1", "--model", "model"]
    return headrace(["export", "robomimic", *common, *words])


@pytest.mark.parametrize("words", [(), ("--links",)], ids=["one file", "links"])
def test_what_robomimic_opens(data: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    split = ("--split", "train=0.6", "valid=0.4")
    assert export(data, tmp_path, "--rename", "qpos=joints", "--next-obs", *split, *words) == 0
    truth = stored(data)
    # As robomimic.utils.dataset opens it.
    with h5py.File(tmp_path / "demo.hdf5", "r", swmr=True, libver="latest") as file:
        data_group = file["data"]
        assert data_group.attrs["total"] == 6 + 7 + 8
        assert json.loads(data_group.attrs["env_args"]) == ENVIRONMENT
        assert sorted(data_group) == ["demo_0", "demo_1", "demo_2"]
        masks = [set(np.array(file[f"mask/{name}"])) for name in ("train", "valid")]
        assert masks[0] | masks[1] == {b"demo_0", b"demo_1", b"demo_2"}
        assert not masks[0] & masks[1]
        for number, index in enumerate((3, 4, 5)):
            demo, stored_one = data_group[f"demo_{number}"], truth[index]
            assert demo.attrs["num_samples"] == 3 + index
            assert demo.attrs["model_file"] == MODEL.decode()
            np.testing.assert_array_equal(demo["actions"], stored_one["action"])
            np.testing.assert_array_equal(demo["states"], stored_one["states"])
            assert demo["states"].dtype == np.float64
            np.testing.assert_array_equal(demo["obs/joints"], stored_one["observations/qpos"].astype(np.float32))
            np.testing.assert_array_equal(demo["obs/front_image"], np.stack(stored_one["front"]))
            check_corners(demo["obs/wrist_image"][1])
            for name in demo["obs"]:
                held = np.concatenate([demo[f"obs/{name}"][1:], demo[f"obs/{name}"][-1:]])
                np.testing.assert_array_equal(demo[f"next_obs/{name}"], held)
            assert demo["rewards"][()].tolist() == [0] * (2 + index) + [float(index != 3)]
            assert demo["dones"][()].tolist() == [0] * (2 + index) + [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["demo.hdf5", "manifest.json", *(["demos"] if words else [])]
    )


def test_a_linked_export_grows_while_readers_have_it_open(data: Path, tmp_path: Path) -> None:
    grown, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, grown)
    command = ("-m", "deploy.main", "export", "robomimic", "--data", grown, "--out", out, "--model", "model")
    with Process(*command, "--follow", "--poll", "0.05") as export:
        wait_until(lambda: (out / "demo.hdf5").exists(), "the first demos")
        with h5py.File(out / "demo.hdf5", "r", swmr=True, libver="latest") as old:
            assert len(old["data"]) == 3
            make(grown, [recorded(9)], actions=0.01)
            wait_until(lambda: len(demos(out)) == 4, "the fourth demo")
            assert len(old["data"]) == 3
            assert old["data/demo_2/actions"].shape == (8, 2)
        export.child.send_signal(signal.SIGINT)
        assert export.wait() == 0
    with h5py.File(out / "demo.hdf5", "r") as new:
        assert new["data/demo_3"].attrs["index"] == 9
        assert new["data"].attrs["total"] == 6 + 7 + 8 + 12


def demos(out: Path) -> list[str]:
    with h5py.File(out / "demo.hdf5", "r") as file:
        return list(file["data"])


def test_two_exports_are_equal_and_a_third_has_nothing_to_do(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(data, tmp_path / "a") == 0
    assert export(data, tmp_path / "b") == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    capsys.readouterr()
    assert export(data, tmp_path / "b") == 0
    assert capsys.readouterr().out.startswith("0 episodes")
    (tmp_path / "b" / "demo.hdf5").unlink()
    assert export(data, tmp_path / "b") == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_robomimic_could_not_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = make(tmp_path / "wild", [recorded(1)], actions=1.0)
    assert export(wild, tmp_path / "a") == 1
    assert "index 1: 'action' reaches 8; robomimic takes actions within -1 and 1" in capsys.readouterr().err
    other = make(tmp_path / "other", [recorded(1), recorded(2, env_args={**ENVIRONMENT, "type": 2})], actions=0.01)
    assert export(other, tmp_path / "b") == 1
    assert "have different env_args, and one file of robomimic has one environment" in capsys.readouterr().err
    assert export(other, tmp_path / "c", "--rename", "elbow=x") == 1
    assert "expected OLD=NEW with OLD one of: qpos, qvel" in capsys.readouterr().err
