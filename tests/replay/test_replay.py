"""`headrace produce replay`: recorded datasets come through the wire as they are, once each."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from producers.replay.formats import open_recording
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, EpisodeError
from protocol.messages import Outcome
from protocol.shard_view import EpisodeView
from tests.processes import Process, SinkProcess, wait_until
from tests.replay.recordings import (
    CAMERAS,
    HEIGHT,
    STEPS,
    WIDTH,
    actions,
    decoded,
    jpeg_bytes,
    picture,
    write_act,
    write_lerobot,
    write_robomimic,
)

Stored = Callable[[str], dict[int, EpisodeView]]
TOLERANCE = 6  # of 255, where an image was compressed once at quality 95 to 100


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SinkProcess]:
    with SinkProcess(tmp_path / "data", http="None") as process:
        process.endpoint = process.says(r"producers at (\S+),")[1]
        yield process


def replay(sink: SinkProcess, source: Path, *words: str) -> Process:
    flags = ("--from", source, "--sink", sink.endpoint, "--plain", "--jpeg-quality", "100", *words)
    return Process("-m", "deploy.main", "produce", "replay", *flags)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """The episodes of a stream by index; every one is checked, and none comes twice."""
    with ExitStack() as views:

        def read(stream: str) -> dict[int, EpisodeView]:
            found: dict[int, EpisodeView] = {}
            for episode in views.enter_context(DatasetView(tmp_path / "data")).episodes(stream):
                episode.check()
                assert episode.index not in found
                found[episode.index] = episode
            return found

        yield read


def worst(first: np.ndarray, second: np.ndarray) -> float:
    """Of the medians of the patches of 16×16: the chroma of a JPEG differs where two of them meet."""
    difference = first.astype(float) - second
    return float(np.abs(np.median(difference.reshape(HEIGHT // 16, 16, WIDTH // 16, 16, 3), (1, 3))).max())


@pytest.mark.parametrize("compress", [False, True])
def test_act(tmp_path: Path, sink: SinkProcess, compress: bool, stored: Stored) -> None:
    source = write_act(tmp_path / "cube transfer", compress)
    with replay(sink, source) as process:
        assert process.wait() == 0, process.output
    episodes = stored("replay/cube_transfer")
    assert sorted(episodes) == [0, 1, 2]
    spec = episodes[0].shard.spec
    assert spec.rate_hz == 50
    assert spec.max_steps == max(STEPS)
    for number, episode in episodes.items():
        assert episode.steps == STEPS[number]
        assert episode.outcome is Outcome.SUCCESS
        assert np.array_equal(episode.column("action"), actions(number))
        assert episode.column("observations/qvel").dtype == np.float64
        assert np.array_equal(episode.column("observations/qvel"), actions(number).astype(np.float64) + 2)
        for camera in CAMERAS:
            for step in range(episode.steps):
                image = picture(camera, number, step)
                if compress:
                    assert episode.frame(camera, step) == jpeg_bytes(image), "published as it is"
                assert worst(decoded(episode.frame(camera, step)), image) < TOLERANCE
        assert episode.attributes()["replayed"] == {"file": "cube transfer", "format": "act", "episode": number}


def test_held_steps_of_an_equal_length_export_are_not_replayed(tmp_path: Path) -> None:
    source = write_act(tmp_path / "cube", False)
    with h5py.File(source / "episode_1.hdf5", "a") as file:
        file.attrs["steps"] = 4
    recording = open_recording(source)
    with recording.episode(1) as episode:
        assert episode.steps == 4
    assert recording.layout.max_steps == max(STEPS[0], 4, STEPS[2])


def test_channels_can_be_exchanged_back(tmp_path: Path, sink: SinkProcess, stored: Stored) -> None:
    source = write_act(tmp_path / "swapped", True)
    with replay(sink, source, "--swap-channels") as process:
        assert process.wait() == 0, process.output
    for number, episode in stored("replay/swapped").items():
        assert worst(decoded(episode.frame("top", 2)), picture("top", number, 2)[..., ::-1]) < TOLERANCE


def test_robomimic(tmp_path: Path, sink: SinkProcess, stored: Stored) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5")
    with replay(sink, source, "--stream", "recorded/lift") as process:
        assert process.wait() == 0, process.output
    episodes = stored("recorded/lift")
    assert sorted(episodes) == [0, 1, 2]
    spec = episodes[0].shard.spec
    assert spec.rate_hz == 20, "what env_args says"
    names = {column.name for column in spec.columns}
    assert names == {"action", "states", "reward", "done", "observations/robot0_eef_pos"}
    for number, episode in episodes.items():
        assert episode.outcome is (Outcome.FAILURE if number == 1 else Outcome.SUCCESS)
        assert np.array_equal(episode.column("observations/robot0_eef_pos"), actions(number))
        attributes = episode.attributes()
        assert attributes["env_args"]["env_name"] == "Lift"
        assert episode.shard.document(attributes["documents"]["model_xml"]) == b"<mujoco/>"
        for step in range(episode.steps):
            assert worst(decoded(episode.frame("top", step)), picture("top", number, step)) < TOLERANCE


@pytest.mark.parametrize("video", [False, True])
def test_lerobot(tmp_path: Path, sink: SinkProcess, video: bool, stored: Stored) -> None:
    source = write_lerobot(tmp_path / "cube", video)
    with replay(sink, source) as process:
        assert process.wait() == 0, process.output
    episodes = stored("replay/cube")
    assert sorted(episodes) == [0, 1, 2]
    assert episodes[0].shard.spec.rate_hz == 20
    for number, episode in episodes.items():
        assert episode.steps == STEPS[number]
        assert episode.outcome is (Outcome.FAILURE if number == 1 else Outcome.SUCCESS)
        assert np.array_equal(episode.column("observations/state"), actions(number) + 1)
        assert episode.attributes()["task"] == "move the cube"
        for step in range(episode.steps):
            image = picture("top", number, step)
            assert worst(decoded(episode.frame("top", step)), image) < TOLERANCE
            if not video:
                assert episode.frame("top", step) == jpeg_bytes(image), "published as it is"


def test_a_video_that_is_cut_off_is_named(tmp_path: Path) -> None:
    source = write_lerobot(tmp_path / "cube", video=True)
    table = next(source.glob("meta/episodes/*/*.parquet"))
    rows = parquet.read_table(table).to_pylist()
    rows[2]["videos/observation.images.top/from_timestamp"] += 0.1
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    with open_recording(source).episode(2) as episode:
        last = episode.steps - 1
        assert worst(episode.frame("top", last - 2), picture("top", 2, last)) < TOLERANCE, "two frames late"
        with pytest.raises(EpisodeError, match=r"file-000\.mp4: expected a frame at 1\.1500 s, found none"):
            episode.frame("top", last)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("../outside.parquet", "is no path below the dataset"),
        ("/etc/passwd", "is no path below the dataset"),
        ("data/{chunk_index:999999999d}.parquet", "is no path below the dataset"),
        ("data/{chunk_index.__class__}.parquet", "is no path below the dataset"),
        ("data/{row_group}.parquet", "is no path below the dataset"),
    ],
)
def test_a_dataset_from_outside_reads_no_file_of_this_machine(tmp_path: Path, path: str, expected: str) -> None:
    source = write_lerobot(tmp_path / "cube", video=False)
    info = json.loads((source / "meta/info.json").read_text())
    (source / "meta/info.json").write_text(json.dumps({**info, "data_path": path}))
    with pytest.raises(EpisodeError, match=expected):
        open_recording(source).episode(0).__enter__()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fps": 0}, "fps"),
        ({"features": []}, "Expected `object`, got `array` - at `$.features`"),
        ({"features": {"action": {"dtype": "float32", "shape": [-1]}}}, "Expected `int` >= 1"),
        ({"features": {"action": {"dtype": "complex", "shape": [1]}}}, "complex"),
        ({"features": {"observation.images.top": {"dtype": "image", "shape": [8, 8]}}}, "height × width × 3 channels"),
    ],
)
def test_an_info_that_does_not_fit_is_one_sentence(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    source = write_lerobot(tmp_path / "cube", video=False)
    info = json.loads((source / "meta/info.json").read_text())
    (source / "meta/info.json").write_text(json.dumps({**info, **change}))
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        open_recording(source)


@pytest.mark.parametrize("name", ["meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    source = write_lerobot(tmp_path / "cube", video=False)
    (source / name).write_bytes((source / name).read_bytes()[:-20])
    with pytest.raises((ConfigurationError, EpisodeError), match=re.escape(name)):
        open_recording(source).episode(0).__enter__()


@pytest.mark.parametrize("kept", [0, 500, 0.6])
def test_a_damaged_video_is_named(tmp_path: Path, kept: float) -> None:
    source = write_lerobot(tmp_path / "cube", video=True)
    [video] = source.glob("videos/*/*/*.mp4")
    data = video.read_bytes()
    video.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with open_recording(source).episode(2) as episode, pytest.raises(EpisodeError, match=r"file-000\.mp4: "):
        episode.frame("top", 0)


def test_frames_of_a_video_that_are_overwritten_are_an_error_and_no_crash(tmp_path: Path) -> None:
    source = write_lerobot(tmp_path / "cube", video=True)
    [video] = source.glob("videos/*/*/*.mp4")
    data = bytearray(video.read_bytes())
    place = data.index(b"mdat")
    data[place + 4 : place + 3000] = bytes(2996)
    video.write_bytes(data)
    with open_recording(source).episode(0) as episode, pytest.raises(EpisodeError, match=r"file-000\.mp4: "):
        [episode.frame("top", step) for step in range(episode.steps)]


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    source = write_lerobot(tmp_path / "cube", video=False)
    table = next(source.glob("data/*/*.parquet"))
    rows = parquet.read_table(table).to_pylist()
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(buffer, "PNG")
    rows[1]["observation.images.top"] = {"bytes": buffer.getvalue(), "path": None}
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    with open_recording(source).episode(0) as episode:
        episode.frame("top", 0)
        with pytest.raises(EpisodeError, match="step 1: expected 48×64 pixels, found 2000×3000"):
            episode.frame("top", 1)


def test_what_is_missing_is_published_by_a_second_run(tmp_path: Path, sink: SinkProcess, stored: Stored) -> None:
    source = write_act(tmp_path / "cube", False)
    with replay(sink, source, "--end-idx", "2") as process:
        assert process.wait() == 0, process.output
    assert sorted(stored("replay/cube")) == [0, 1]
    with replay(sink, source) as process:
        assert process.wait() == 0, process.output
    assert sorted(stored("replay/cube")) == [0, 1, 2]


def test_a_killed_replay_goes_on_and_stores_each_episode_once(
    tmp_path: Path, sink: SinkProcess, stored: Stored
) -> None:
    folder = write_act(tmp_path / "many", True)
    for number in range(len(STEPS), 60):
        (folder / f"episode_{number}.hdf5").symlink_to(folder / f"episode_{number % len(STEPS)}.hdf5")
    with replay(sink, folder, "--workers", "1") as process:
        wait_until(lambda: (tmp_path / "data/replay/many").exists(), "the stream begins", 60)
        wait_until(lambda: len(stored("replay/many")) > 3, "some are stored", 60)
        process.kill()
    with replay(sink, folder) as process:
        assert process.wait() == 0, process.output
    episodes = stored("replay/many")
    assert sorted(episodes) == list(range(60))
    assert all(np.array_equal(e.column("action"), actions(n % len(STEPS))) for n, e in episodes.items())


def test_a_damaged_episode_is_named_and_can_be_left_out(tmp_path: Path, sink: SinkProcess, stored: Stored) -> None:
    source = write_act(tmp_path / "cube", True)
    with h5py.File(source / "episode_1.hdf5", "a") as file:
        file["observations/images/wrist"][3, 20:] = 0
    with replay(sink, source) as process:
        assert process.wait() == 1
        last = " ".join(process.lines[-3:])
        assert "episode_1.hdf5" in last
        assert "camera 'wrist', step 3" in last
        assert "--skip-damaged" in last
    with replay(sink, source, "--skip-damaged") as process:
        assert process.wait() == 0, process.output
    episodes = stored("replay/cube")
    assert {number: episode.outcome for number, episode in episodes.items()} == {
        0: Outcome.SUCCESS, 1: Outcome.VOID, 2: Outcome.SUCCESS,
    }  # fmt: skip
    assert "camera 'wrist', step 3" in episodes[1].attributes()["why"]


def test_an_episode_unlike_the_first_is_named(tmp_path: Path) -> None:
    source = write_act(tmp_path / "cube", False)
    with h5py.File(source / "episode_2.hdf5", "a") as file:
        del file["observations/qvel"]
    recording = open_recording(source)
    with pytest.raises(Exception, match=r"episode_2\.hdf5: it is not like the first episode: .*'observations/qvel'"):
        recording.episode(2).__enter__()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("missing", "there is no such file or folder"),
        ("empty", "expected a folder with episode_0.hdf5"),
        ("text", "expected a folder with episode_0.hdf5"),
        ("no action", "expected a dataset `action`"),
        ("float images", "expected uint8 images, found float32"),
        ("other length", "expected 6 rows, one for each action; found shape (5, 2)"),
        ("strings", "cannot be published"),
        ("other file", "keeps its data in another file"),
        ("old lerobot", "expected codebase_version v3.0, found v2.1"),
    ],
)
def test_what_cannot_be_replayed_gets_one_sentence(tmp_path: Path, damage: str, expected: str) -> None:
    source = tmp_path / "recorded"
    _spoil(source, damage)
    with pytest.raises(ConfigurationError, match=re.escape(expected)) as found:
        open_recording(source)
    assert str(source) in str(found.value)


def _spoil(source: Path, damage: str) -> None:
    if damage == "missing":
        return
    if damage == "text":
        source.write_text("no dataset")
        return
    source.mkdir()
    if damage == "old lerobot":
        (source / "meta").mkdir()
        (source / "meta/info.json").write_text('{"codebase_version": "v2.1"}')
    elif damage != "empty":
        with h5py.File(source / "episode_0.hdf5", "w") as file:
            file["action"] = actions(0)
            match damage:
                case "no action":
                    del file["action"]
                case "float images":
                    file["observations/images/top"] = np.zeros((6, 4, 4, 3), np.float32)
                case "other length":
                    file["observations/qpos"] = np.zeros((5, 2))
                case "strings":
                    file["observations/note"] = np.array([b"a"] * 6)
                case "other file":
                    file.create_dataset("observations/qpos", (6, 2), "f4", external=[("/etc/hostname", 0, 48)])


def test_the_commands_of_the_page(tmp_path: Path, sink: SinkProcess) -> None:
    page = (Path(__file__).parents[2] / "docs/replay.md").read_text()
    lines = [line for line in page.split("```sh\n")[1].split("```")[0].splitlines() if " replay " in line]
    sources = [
        write_act(tmp_path / "act", False),
        write_robomimic(tmp_path / "l.hdf5"),
        write_lerobot(tmp_path / "p", True),
    ]
    assert len(lines) == len(sources)
    for line, source in zip(lines, sources, strict=True):
        words = line.replace("tcp://127.0.0.1:5555", sink.endpoint).split()
        words[words.index("--from") + 1] = str(source)
        with Process("-m", "deploy.main", *words[1:], "--plain", "--workers", "1") as process:
            assert process.wait() == 0, process.output
    with DatasetView(tmp_path / "data") as view:
        assert view.streams == ["recorded/lift", "replay/act", "replay/p"]
