"""What the peers write is what they were given, and nothing that goes wrong with one of them stops the bench."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from deploy.bench.frames import jpeg_frames
from deploy.bench.peers import lerobot_program
from deploy.bench.peers.child import Child
from deploy.bench.peers.episodes import EpisodeSource, load_frames, save_frames
from deploy.bench.peers.plan import PEERS, PeerPlan, PeerResult
from deploy.bench.peers.report import details, reader_table, speed_table
from deploy.bench.peers.run import run_peers
from deploy.bench.peers.writer import main, make_writer
from protocol.errors import ConfigurationError
from protocol.jpeg import decode
from tests.processes import wait_until

CAMERAS = ("front", "wrist")
STEPS = 4
FRAMES = jpeg_frames(7, 4_000, 96, 128)  # of no common factor with the steps, so that no two episodes are equal
SOURCE = EpisodeSource(FRAMES, STEPS, CAMERAS)
SMALL = PeerPlan(episodes=2, steps=STEPS, cameras=CAMERAS, limit_s=60)
H5PY = [name for name in PEERS if name.startswith("h5py")]


def task(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    save_frames(folder / "frames.npz", FRAMES)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    where = {"peer": name, "frames": str(folder / "frames.npz"), "out": str(out)}
    return {**where, "episodes": 2, "steps": STEPS, "cameras": CAMERAS, "budget_s": 60.0, "hold": False, **changes}


def read_back(name: str, folder: Path, number: int) -> tuple[dict[str, list[Any]], Any, Any]:
    """Frames by camera, qpos and action of an episode, with h5py alone."""
    if name.startswith("h5py_swmr"):
        with h5py.File(folder / "dataset.h5") as file:
            ends = [0, *file["ends"][:]]
            steps = slice(ends[number], ends[number + 1])
            tables = {camera: file[f"observations/images/{camera}"][steps] for camera in CAMERAS}
            frames = {
                camera: [file["blob"][at : at + size].tobytes() for at, size in table]
                for camera, table in tables.items()
            }
            return frames, file["observations/qpos"][steps], file["action"][steps]
    with h5py.File(folder / f"episode_{number}.hdf5") as file:
        frames = {camera: list(file[f"observations/images/{camera}"]) for camera in CAMERAS}
        return frames, file["observations/qpos"][:], file["action"][:]


@pytest.mark.parametrize("name", H5PY)
def test_what_was_given_is_read_back(tmp_path: Path, name: str) -> None:
    given = task(name, tmp_path)
    report = main(given)
    payload = sum(SOURCE.payload_bytes(number) for number in range(2))
    assert (report["episodes"], report["frames"], report["payload_bytes"]) == (2, 2 * STEPS * len(CAMERAS), payload)
    assert report["seconds"] > 0
    for number in range(2):
        frames, qpos, action = read_back(name, Path(given["out"]), number)
        episode = SOURCE.episode(number, decoded=False)
        np.testing.assert_array_equal(qpos, episode.qpos)
        np.testing.assert_array_equal(action, episode.action)
        for camera, place in zip(CAMERAS, range(2), strict=True):
            for step in range(STEPS):
                jpeg = SOURCE.jpeg(number, step, place)
                if "gzip" in name:
                    np.testing.assert_array_equal(frames[camera][step], decode(jpeg))
                else:
                    assert bytes(frames[camera][step]) == jpeg


def test_the_usual_script_keeps_the_layout_of_act(tmp_path: Path) -> None:
    given = task("h5py_gzip", tmp_path)
    main(given)
    with h5py.File(Path(given["out"]) / "episode_0.hdf5") as file:
        images = file["observations/images/front"]
        assert (images.dtype, images.shape, images.chunks) == (np.uint8, (STEPS, 96, 128, 3), (1, 96, 128, 3))
        assert (images.compression, images.compression_opts) == ("gzip", 4)
        assert file.attrs["sim"]


def test_a_slow_peer_begins_no_episode_after_its_budget(tmp_path: Path) -> None:
    assert main(task("h5py_jpeg", tmp_path, episodes=50, budget_s=0.0))["episodes"] == 1


@pytest.mark.parametrize("name", ["h5py_jpeg", "h5py_jpeg_fsync", "h5py_swmr", "h5py_swmr_fsync"])
def test_only_those_that_say_so_sync(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    really = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), really(fd)))
    writer = make_writer(task(name, tmp_path), lambda *_: None)
    writer.write(SOURCE.episode(0, decoded=False))
    writer.close()
    assert bool(synced) == name.endswith("_fsync")


def test_a_run_measures_reads_and_kills(tmp_path: Path) -> None:
    said: list[str] = []
    peers = ("h5py_gzip", "h5py_jpeg_fsync", "h5py_swmr")
    results = run_peers(FRAMES, PeerPlan(2, STEPS, CAMERAS, peers, limit_s=60), tmp_path / "scratch", said.append)
    assert [result.name for result in results] == list(peers)
    assert [result.durable for result in results] == [False, True, False]
    for result in results:
        assert not result.left_out
        assert (result.episodes, result.frames) == (2, 2 * STEPS * len(CAMERAS))
        assert result.mb_per_s > 0
        assert result.disk_bytes > (0 if result.name == "h5py_gzip" else result.payload_bytes)
    gzip, jpeg, swmr = results
    for files in (gzip, jpeg):
        assert files.while_written.startswith("episode_0.hdf5: opens, 4 of 4 steps; episode_1.hdf5: ")
        assert files.after_kill.startswith("episode_0.hdf5: opens, 4 of 4 steps; episode_1.hdf5: ")
    assert "swmr=True: opens, 1 episodes, 4 steps" in swmr.while_written
    assert [path.name for path in (tmp_path / "scratch").iterdir() if path.is_dir()] == []
    text = printed(results)
    assert all(name in text for name in peers)
    assert details(results)[0]["mb_per_s"] == gzip.mb_per_s


def test_a_peer_that_takes_too_long_is_left_out_and_the_next_one_is_measured(tmp_path: Path) -> None:
    said: list[str] = []
    slow = run_peers(FRAMES, PeerPlan(2, STEPS, CAMERAS, ("h5py_gzip",), limit_s=0.01), tmp_path, said.append)
    assert slow[0].left_out == "it had not ended after 0.01 s"
    assert said[-1] == "h5py_gzip is left out: it had not ended after 0.01 s"
    assert "left out: it had not ended after 0.01 s" in printed(slow)
    assert not run_peers(FRAMES, PeerPlan(2, STEPS, CAMERAS, ("h5py_jpeg",)), tmp_path, said.append)[0].left_out


def test_the_last_words_of_a_peer_that_fails_are_the_reason(tmp_path: Path) -> None:
    result = run_peers([b"no JPEG"], PeerPlan(2, STEPS, CAMERAS, ("h5py_gzip",)), tmp_path, lambda _: None)[0]
    assert "EpisodeError: expected a JPEG, found 7 bytes" in result.left_out


def test_a_plan_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no peer 'zarr'; expected some of: h5py_gzip, "):
        run_peers(FRAMES, PeerPlan(peers=("zarr",)), tmp_path, lambda _: None)
    with pytest.raises(ConfigurationError, match="at least one frame"):
        run_peers([], PeerPlan(), tmp_path, lambda _: None)


# --- LeRobot -------------------------------------------------------------------------------------------------------


def lerobot(tmp_path: Path, **changes: Any) -> tuple[list[PeerResult], list[str]]:
    said: list[str] = []
    plan = PeerPlan(2, STEPS, CAMERAS, ("lerobot_images", "lerobot_video"), **changes)
    return run_peers(FRAMES, plan, tmp_path, said.append), said


def test_lerobot_is_left_out_with_the_reason_of_pip(tmp_path: Path) -> None:
    # --no-index: pip fails as it does on a machine without a network.
    results, said = lerobot(tmp_path, pip=("--no-index",), environments=tmp_path / "kept", install_limit_s=200)
    assert (tmp_path / "kept" / "lerobot" / "venv" / "bin" / "python").exists()
    for result in results:
        assert result.left_out.startswith("pip install torch==2.13.0 ")
        assert "ERROR: No matching distribution found for " in result.left_out
        assert "\n" not in result.left_out
    # One environment and one attempt serve both.
    assert sum(line.startswith("pip install") for line in said) == 1


def test_lerobot_is_left_out_when_its_time_is_over(tmp_path: Path) -> None:
    began = time.monotonic()
    results, _ = lerobot(tmp_path, install_limit_s=0.05)
    assert results[0].left_out.startswith("python -m venv: it had not ended after 0")
    assert time.monotonic() - began < 20
    # What was left half made is made anew.
    again, said = lerobot(tmp_path, install_limit_s=200, pip=("--no-index",))
    assert said[1] == "making a virtual environment for LeRobot …"
    assert again[0].left_out.startswith("pip install torch==2.13.0 ")


def test_lerobot_is_handed_the_same_episodes(tmp_path: Path) -> None:
    save_frames(tmp_path / "frames.npz", FRAMES)
    frames = lerobot_program._load_frames(tmp_path / "frames.npz")
    assert frames == load_frames(tmp_path / "frames.npz") == FRAMES
    jpegs = [SOURCE.jpeg(1, step, camera) for step in range(STEPS) for camera in range(len(CAMERAS))]
    steps = lerobot_program._steps({"steps": STEPS, "cameras": CAMERAS}, 1, jpegs)
    episode = SOURCE.episode(1, decoded=True)
    for number, step in enumerate(steps):
        np.testing.assert_array_equal(step["observation.state"], episode.qpos[number])
        np.testing.assert_array_equal(step["action"], episode.action[number])
        for camera in CAMERAS:
            image, expected = step[f"observation.images.{camera}"], episode.images[camera][number]
            # Two JPEG decoders differ by the rounding of colours.
            assert np.abs(image.astype(int) - expected.astype(int)).mean() < 3


# --- processes -----------------------------------------------------------------------------------------------------


def test_a_child_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    grandchild = "import time; time.sleep(600)"
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {grandchild!r}]).pid, flush=True)"
    with Child([sys.executable, "-c", f"{code}; sys.stdin.read()"], tmp_path / "log") as child:
        pid = int(child.line(30))
        assert Path(f"/proc/{pid}").exists()
    wait_until(lambda: not _runs(pid), "the grandchild has ended")


def _runs(pid: int) -> bool:
    """It exists and is no zombie that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def printed(results: Sequence[PeerResult]) -> str:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(speed_table(results))
    console.print(reader_table(results))
    return text.getvalue()
