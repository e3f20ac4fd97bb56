"""Export → replay → export: the second export is the first one."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from tests.datasets import Recorded
from tests.export.arm import check_corners, files, make
from tests.processes import Process, SinkProcess

ENVIRONMENT = {"env_name": "Arm", "type": 1, "env_kwargs": {"control_freq": 50}, "env_version": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outcomes = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS)
    episodes = [Recorded(n, 4 + n, outcome, {"env_args": ENVIRONMENT}) for n, outcome in enumerate(outcomes)]
    return make(tmp_path_factory.mktemp("arm"), episodes, actions=0.01)


def export(data: Path, out: Path, *words: str) -> dict[str, bytes]:
    """The files of an export, without the manifest, which names dataset and snapshot."""
    assert headrace(["export", words[0], "--data", str(data), "--out", str(out), "--workers", "1", *words[1:]]) == 0
    return {name: content for name, content in files(out).items() if name != "manifest.json"}


def replay(source: Path, data: Path) -> None:
    with SinkProcess(data, http="None") as sink:
        endpoint = sink.says(r"producers at (\S+),")[1]
        words = ("--from", source, "--sink", endpoint, "--plain", "--workers", "1", "--jpeg-quality", "95")
        with Process("-m", "deploy.main", "produce", "replay", *words) as process:
            assert process.wait() == 0, process.output
        assert sink.terminate() == 0


def test_jpegs_come_back_byte_for_byte(data: Path, tmp_path: Path) -> None:
    words = ("act", "--compress", "--copy-jpeg")
    first = export(data, tmp_path / "first", *words)
    assert len(first) == 3
    replay(tmp_path / "first", tmp_path / "data")
    assert export(tmp_path / "data", tmp_path / "second", *words) == first


def test_lerobot_with_jpegs_comes_back_byte_for_byte(data: Path, tmp_path: Path) -> None:
    words = ("lerobot", "--images", "jpeg")
    first = export(data, tmp_path / "first", *words)
    replay(tmp_path / "first", tmp_path / "data")
    # Its name for qpos is state.
    second = export(tmp_path / "data", tmp_path / "second", *words, "--state", "observations/state")
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_act_comes_back_but_for_what_a_jpeg_changes(data: Path, tmp_path: Path) -> None:
    export(data, tmp_path / "first", "act")
    replay(tmp_path / "first", tmp_path / "data")
    export(tmp_path / "data", tmp_path / "second", "act")
    for number in range(3):
        name = f"episode_{number}.hdf5"
        with h5py.File(tmp_path / "first" / name) as before, h5py.File(tmp_path / "second" / name) as after:
            same_but_for_images(before, after)


def test_robomimic_comes_back_but_for_what_a_jpeg_changes(data: Path, tmp_path: Path) -> None:
    words = ("robomimic", "--model", "model")
    export(data, tmp_path / "first", *words)
    replay(tmp_path / "first", tmp_path / "data")
    export(tmp_path / "data", tmp_path / "second", "robomimic")
    with h5py.File(tmp_path / "first/demo.hdf5") as before, h5py.File(tmp_path / "second/demo.hdf5") as after:
        same_but_for_images(before, after)


def same_but_for_images(before: h5py.Group, after: h5py.Group) -> None:
    """Fail on any other difference, of names, attributes or bytes."""
    assert dict(before.attrs) == dict(after.attrs)
    assert before.keys() == after.keys()
    for name, item in before.items():
        if isinstance(item, h5py.Group):
            same_but_for_images(item, after[name])
            continue
        found = after[name]
        assert (found.dtype, found.shape) == (item.dtype, item.shape), item.name
        if item.ndim == 4:
            check_corners(found[1])
            assert np.abs(found[:].astype(int) - item[:]).mean() < 3, "one more JPEG"
        else:
            assert np.array_equal(found[:], item[:]), item.name
