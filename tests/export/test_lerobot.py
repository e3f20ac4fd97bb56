"""`headrace export lerobot`, read with plain pyarrow and PyAV; LeRobot's own reader is asked by `make interop`."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from deploy.main import main as headrace
from protocol.dataset_view import DatasetView
from protocol.messages import Outcome
from protocol.spec import Camera, Column, StreamSpec
from sink.export.lerobot import statistics
from sink.export.lerobot.format import LeRobot
from sink.export.lerobot.layout import Limits, share_files
from sink.export.lerobot.writer import LeRobotWriter
from tests.datasets import Recorded
from tests.export.arm import SPEC, check_corners, files, make, stored

KEYS = [f"observation.images.{camera.name}" for camera in SPEC.cameras]
STEPS = {7: 5, 2: 8, 4: 3}  # index → steps; committed in this order
ORDER = sorted(STEPS)
BEGINS = np.cumsum([0, *(STEPS[index] for index in ORDER)]).tolist()
TASKS = {7: "lift the can", 2: "lift the can", 4: "put it down"}
# Mean of what JPEG, 4:2:0 chroma and CRF 30 change in these pictures [levels of 255].
VIDEO_NEAR = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    episodes = [Recorded(index, steps, attributes={"task": TASKS[index]}) for index, steps in STEPS.items()]
    return make(tmp_path_factory.mktemp("arm"), [*episodes, Recorded(5, outcome=Outcome.VOID)])


def export(data: Path, out: Path, *words: str) -> int:
    return headrace(["export", "lerobot", "--data", str(data), "--out", str(out), "--workers", "1", *words])


def read(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


def pictures(path: Path) -> list[tuple[Fraction, Any]]:
    """(time, RGB) of each frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        found = []
        for frame in container.decode(stream):
            assert frame.pts is not None
            found.append((frame.pts * stream.time_base, frame.to_ndarray(format="rgb24")))
        return found


def test_rows_are_what_was_stored(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path) == 0
    truth = stored(data)
    table = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    assert pq.ParquetFile(tmp_path / "data/chunk-000/file-000.parquet").num_row_groups == len(STEPS)
    rows = table.to_pydict()
    for key, column in (
        ("action", "action"),
        ("observation.state", "observations/qpos"),
        ("observation.qvel", "observations/qvel"),
        ("states", "states"),
    ):
        np.testing.assert_array_equal(rows[key], np.concatenate([truth[index][column] for index in ORDER]))
    assert rows["index"] == list(range(sum(STEPS.values())))
    assert rows["episode_index"] == [number for number, index in enumerate(ORDER) for _ in range(STEPS[index])]
    steps = [step for index in ORDER for step in range(STEPS[index])]
    assert rows["frame_index"] == steps
    np.testing.assert_array_equal(rows["timestamp"], (np.array(steps) / 50).astype(np.float32))
    assert rows["task_index"] == [0] * 8 + [1] * 3 + [0] * 5
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["lift the can", "put it down"]}


@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_video_has_every_frame_at_its_time_upright_and_in_rgb(data: Path, tmp_path: Path, codec: str) -> None:
    assert export(data, tmp_path, "--codec", codec) == 0
    truth = stored(data)
    episodes = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for key, camera in zip(KEYS, SPEC.cameras, strict=True):
        found = pictures(tmp_path / f"videos/{key}/chunk-000/file-000.mp4")
        assert [time for time, _ in found] == [Fraction(number, 50) for number in range(sum(STEPS.values()))]
        expected = [image for index in ORDER for image in truth[index][camera.name]]
        for (_, image), original in zip(found, expected, strict=True):
            check_corners(image)
            assert np.abs(image.astype(int) - original).mean() < VIDEO_NEAR
        assert [row[f"videos/{key}/from_timestamp"] for row in episodes] == [begin / 50 for begin in BEGINS[:-1]]
        assert [row[f"videos/{key}/to_timestamp"] for row in episodes] == [end / 50 for end in BEGINS[1:]]
    info = read(tmp_path, "meta/info.json")
    assert (info["fps"], info["total_frames"], info["splits"]) == (50, sum(STEPS.values()), {"train": "0:3"})
    assert info["features"][KEYS[0]]["info"]["video.codec"] == codec
    assert not (tmp_path / ".parts").exists()


def test_jpegs_are_copied_bit_by_bit(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--images", "jpeg", "--cameras", "wrist") == 0
    with DatasetView(data) as view:
        by_index = {episode.index: episode for episode in view.new_episodes()}
        expected = [by_index[index].frame("wrist", step) for index in ORDER for step in range(STEPS[index])]
    rows = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet").to_pydict()
    assert [row["bytes"] for row in rows[KEYS[1]]] == expected
    assert KEYS[0] not in rows
    assert read(tmp_path, "meta/info.json")["video_path"] is None


def test_statistics_are_those_of_all_steps(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path) == 0
    found, truth = read(tmp_path, "meta/stats.json"), stored(data)
    action = np.concatenate([truth[index]["action"] for index in ORDER]).astype(float)
    images = np.concatenate([truth[index]["front"] for index in ORDER]) / 255
    for key, values in (("action", action), (KEYS[0], images.reshape(-1, 3))):
        for name, expected in (("mean", values.mean(0)), ("std", values.std(0)), ("max", values.max(0))):
            np.testing.assert_allclose(np.ravel(found[key][name]), expected, rtol=1e-6, err_msg=f"{key} {name}")
        assert found[key]["count"] == [sum(STEPS.values())]
    assert np.shape(found[KEYS[0]]["q50"]) == (3, 1, 1)
    row = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[1]
    np.testing.assert_allclose(row["stats/action/q50"], np.median(truth[4]["action"], axis=0), atol=2)
    assert row["stats/index/min"] == [8]


def test_quantiles_are_close_to_the_exact_ones() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 2)) * [1, 1000]
    found = statistics.of_column(values)
    for name, share in statistics.QUANTILES.items():
        np.testing.assert_allclose(found[name], np.quantile(values, share, axis=0), rtol=0.02, atol=0.02)
    values[:4, 0] = np.nan
    assert statistics.of_column(values)["mean"][0] == pytest.approx(values[4:, 0].mean())


def test_files_are_full_at_their_limits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.members for file in share_files([5 << 20, 4 << 20, 3 << 20], 10)] == [(0, 1), (2,)]
    assert [file.members for file in share_files([1, 1, 1], 10, [600, 500, 500], 1000)] == [(0,), (1, 2)]
    # One episode a file, two files a folder.
    begin = LeRobot.begin
    limits = Limits(data_mb=1e-6, video_mb=1e-6, files=2)
    monkeypatch.setattr(LeRobot, "begin", lambda *given: replace(begin(*given), limits=limits))
    assert export(data, tmp_path) == 0
    names = ["chunk-000/file-000", "chunk-000/file-001", "chunk-001/file-000"]
    for number, (name, index) in enumerate(zip(names, ORDER, strict=True)):
        assert len(pictures(tmp_path / f"videos/{KEYS[0]}/{name}.mp4")) == STEPS[index]
        (row,) = pq.read_table(tmp_path / f"meta/episodes/{name}.parquet").to_pylist()
        assert row["episode_index"] == number
        place = [int(part[-3:]) for part in name.split("/")]
        for what in ("data", f"videos/{KEYS[0]}", "meta/episodes"):
            assert [row[f"{what}/chunk_index"], row[f"{what}/file_index"]] == place
        assert row[f"videos/{KEYS[0]}/from_timestamp"] == 0
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (BEGINS[number], BEGINS[number + 1])


def test_interrupted_before_the_end_it_goes_on_to_the_same_bytes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(LeRobotWriter, "finish", no_room)
        assert export(data, tmp_path / "cut") == 1
    assert not (tmp_path / "cut/meta").exists()
    assert export(data, tmp_path / "cut") == export(data, tmp_path / "whole", "--workers", "2") == 0
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--state", "joints"), "no column 'joints'; it has: action"),
        (("--codec", "h264", "--crf", "52"), "h264 takes 0 to 51"),
        (("--cameras", "side"), "no camera 'side'; it has: front, wrist"),
        (("--split", "train=0.5", "valid=0.5"), "make an export of each, with --split and --only"),
    ],
)
def test_what_cannot_be_written_is_said_before(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert export(data, tmp_path, *words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_odd_sides_and_broken_rates_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (rate, side, said) in enumerate(((50, 47, "even sides"), (29.97, 48, "whole numbers only"))):
        spec = StreamSpec("test/odd", rate, 10, (Column("action", "float32", (2,)),), (Camera("front", side, 64),))
        data = make(tmp_path / f"data{number}", [Recorded(0, 2)], spec)
        assert export(data, tmp_path / "out", "--codec", "h264") == 1
        assert said in capsys.readouterr().err
