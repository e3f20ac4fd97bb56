"""The main job with real processes, real sockets and real robosuite, at a small image size; read with raw h5py."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

STREAM = "robosuite/PickPlaceCan"
HEIGHT, WIDTH = 72, 96
LIMIT_S = 200.0


class Processes:
    """Child processes of a test; all are ended with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "deploy.main", *words], stdout=log, stderr=log)
        self.started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def sink(self, data: Path, bind: str = "tcp://127.0.0.1:0") -> tuple[subprocess.Popen[bytes], str]:
        name = f"sink-{len(self.started)}"
        process = self.start(name, "sink", "--data", str(data), "--bind", bind, "--http", "None", "--shard-mib", "16")
        ready = until(lambda: re.search(r"producers at (\S+),", self.log(name)), "the sink to be ready", process)
        return process, ready[1]

    def produce(self, endpoint: str, *words: str) -> subprocess.Popen[bytes]:
        size = ("--camera-height", str(HEIGHT), "--camera-width", str(WIDTH))
        flags = ("--sink", endpoint, "--plain", "--horizon", "400", *size, *words)
        return self.start(f"produce-{len(self.started)}", "produce", "robosuite", *flags)


def until(condition: Callable[[], Any], what: str, *needed: subprocess.Popen[bytes]) -> Any:
    """Poll until the condition is true; fails after a time, or when a process that is needed ends."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {LIMIT_S:.0f} s for {what}"
        assert all(process.poll() is None for process in needed), f"a process ended while waiting for {what}"
        select.select([], [], [], 0.05)
    return found


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def rows(data: Path) -> np.ndarray:
    """All committed rows, by raw h5py: those whose checksum field is set."""
    found = []
    for path in sorted(data.rglob("0*.h5")):
        with h5py.File(path, "r", locking=False) as file:
            table = file["episodes"][:]
            found.append(table[table["row_checksum"] != 0])
    return np.concatenate(found) if found else np.empty(0)


def test_workers_and_sink_may_die_and_the_collection_ends_with_exactly_what_was_asked(
    processes: Processes, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    sink, endpoint = processes.sink(data)
    first = processes.produce(endpoint, "--workers", "1", "--episodes", "5")
    second = processes.produce(endpoint, "--workers", "1", "--episodes", "5")
    until(lambda: len(rows(data)) >= 1, "the first episode", first, second)
    worker = next(child for child in children(first.pid) if b"spawn_main" in command_line(child))
    os.kill(worker, signal.SIGKILL)
    sink.kill()
    sink.wait()
    before = rows(data)
    sink, _ = processes.sink(data, endpoint)
    assert first.wait(LIMIT_S) == 0, processes.log("produce-1")
    assert second.wait(LIMIT_S) == 0
    assert "it is started again" in processes.log("produce-1")
    sink.terminate()
    assert sink.wait(60) == 0
    table = rows(data)
    indices = table["index"]
    assert len(set(indices)) == len(indices)
    assert (table["outcome"] == 1).sum() == 5
    assert sorted(indices) == list(range(len(indices)))
    assert set(before["index"]) <= set(indices)
    check_episode(data)


def check_episode(data: Path) -> None:
    """One stored episode is what the ACT spec says, with raw h5py, PIL and nothing of ours."""
    with h5py.File(next(iter(sorted(data.rglob("0*.h5")))), "r", locking=False) as file:
        row = file["episodes"][0]
        steps = slice(int(row["first_step"]), int(row["first_step"] + row["steps"]))
        action = file["steps/action"][steps]
        assert action.shape == (row["steps"], 7)
        assert np.abs(action).max() <= 1
        assert file["steps/observations/qpos"][steps].shape == (row["steps"], 9)
        times = file["steps/states"][steps][:, 0]
        np.testing.assert_allclose(np.diff(times), 1 / 50, atol=1e-9)
        blob = file["blob"]
        attributes = blob[int(row["attributes_offset"]) : int(row["attributes_offset"] + row["attributes_size"])]
        described = json.loads(attributes.tobytes())
        assert described["success"]
        assert described["env_args"]["env_name"] == "PickPlaceCan"
        assert described["env_args"]["type"] == 1
        assert described["policy"]["speed_multiplier"] == 2.0
        assert described["policy"]["grasp_threshold"] == 0.06
        assert {"seed", "steps", "preset", "jpeg_quality"} <= set(described)
        assert set(described["versions"]) >= {"robosuite", "mujoco"}
        documents = {d["sha256"]: d for d in file["documents"][:] if d["size"]}
        model = documents[described["documents"]["model_xml"].encode()]
        assert blob[int(model["offset"]) : int(model["offset"]) + 7].tobytes() == b"<mujoco"
        place = file["steps/images/agentview"][steps][0]
        frame = blob[int(place["offset"]) : int(place["offset"] + place["size"])].tobytes()
    image = np.asarray(Image.open(io.BytesIO(frame)).convert("RGB"), np.int32)
    assert image.shape == (HEIGHT, WIDTH, 3)
    # Upright: the back wall above is grey, the wooden bin on the left half below is warm.
    wall, bin_floor = image[4, WIDTH // 4], image[HEIGHT // 2, WIDTH // 4]
    assert np.ptp(wall) < 25, wall
    assert bin_floor[0] > bin_floor[2] + 25, bin_floor


def test_an_index_is_the_same_episode_whoever_runs_it(processes: Processes, tmp_path: Path) -> None:
    checksums = []
    for workers, name in ((1, "one"), (2, "two")):
        sink, endpoint = processes.sink(tmp_path / name)
        produce = processes.produce(endpoint, "--workers", str(workers), "--end-idx", "3", "--keep-failures")
        assert produce.wait(LIMIT_S) == 0
        sink.terminate()
        assert sink.wait(60) == 0
        table = rows(tmp_path / name)
        checksums.append({int(row["index"]): int(row["data_checksum"]) for row in table})
    assert sorted(checksums[0]) == [0, 1, 2]
    assert checksums[0] == checksums[1]


def children(parent: int) -> list[int]:
    """Process ids of the children of a process (proc(5))."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
