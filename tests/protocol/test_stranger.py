"""A producer written from SPEC.md alone delivers to a real sink, and the dataset has exactly what it sent.

The file is checked with raw h5py and msgpack, not with our own reader: both could be wrong in the same way.
"""

from __future__ import annotations

import ast
import hashlib
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import pytest
import simplejpeg
import xxhash

ROOT = Path(__file__).parents[2]
STRANGER = Path(__file__).with_name("stranger.py")
ALLOWED = {"hashlib", "json", "msgpack", "os", "simplejpeg", "struct", "sys", "time", "typing", "xxhash", "zmq"}
START_S, STOP_S, STRANGER_S = 30.0, 30.0, 90.0


class RunningSink:
    """`python -m sink` as a subprocess; its log is read by a thread, so that the pipe never fills."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-m", "sink", "--data", str(data), "--bind", "tcp://127.0.0.1:0", "--http", "None"]
        self.process = subprocess.Popen([*command, "--shard-mib", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        self.endpoint = self._wait_until_ready()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + START_S
        try:
            while (line := self._lines.get(timeout=max(deadline - time.monotonic(), 0))) is not None:
                if found := re.search(r"READY: .*producers at (\S+),", line):
                    return found[1]
        except queue.Empty:
            pass
        self.stop(signal.SIGKILL)
        pytest.fail("the sink did not become ready:\n" + "".join(self.log))

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(STOP_S)
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[RunningSink]:
    """A sink on an empty directory; killed if the test has not stopped it."""
    running = RunningSink(tmp_path)
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


def run_stranger(endpoint: str) -> dict[str, Any]:
    """What it says that it sent."""
    done = subprocess.run(
        [sys.executable, str(STRANGER), endpoint], capture_output=True, text=True, timeout=STRANGER_S, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def read_dataset(shard: Path, spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every sound row of a shard as the stranger describes an episode, with raw h5py."""
    found: dict[str, dict[str, Any]] = {}
    with h5py.File(shard, "r", locking=False) as file:
        blob = file["blob"]
        for number, row in enumerate(file["episodes"][:]):
            if xxhash.xxh3_64_intdigest(row.tobytes()[:-8], seed=number) != row["row_checksum"]:
                break
            assert row["producer"] == b"a stranger"
            assert str(row["index"]) not in found, "committed twice"
            first, attributes_at = int(row["first_step"]), int(row["attributes_offset"])
            steps = slice(first, first + int(row["steps"]))
            tables = {camera["name"]: file[f"steps/images/{camera['name']}"][steps] for camera in spec["cameras"]}
            frames = {name: [blob[at : at + size].tobytes() for at, size, _ in table.tolist()]
                      for name, table in tables.items()}  # fmt: skip
            for name, table in tables.items():
                sums = [xxhash.xxh3_64_intdigest(frame) & 0xFFFFFFFF for frame in frames[name]]
                assert table["checksum"].tolist() == sums
            attributes = blob[attributes_at : attributes_at + int(row["attributes_size"])].tobytes()
            found[str(row["index"])] = {
                "index": int(row["index"]),
                "outcome": int(row["outcome"]),
                "steps": int(row["steps"]),
                "seed": int(row["seed"]),
                "began_ns": int(row["began_ns"]),
                "ended_ns": int(row["ended_ns"]),
                "checksum": int(row["data_checksum"]),
                "documents": sorted(json.loads(attributes).get("documents", {}).values()),
                "attributes": attributes.hex(),
                "action": file["steps/action"][steps].tobytes().hex(),
                "tick": file["steps/observations/tick"][steps].tobytes().hex(),
                "frames": {name: [frame.hex() for frame in list_] for name, list_ in frames.items()},
            }
    return found


def read_documents(shard: Path) -> dict[str, bytes]:
    """The sound documents, by name."""
    found = {}
    with h5py.File(shard, "r", locking=False) as file:
        for number, row in enumerate(file["documents"][:]):
            if xxhash.xxh3_64_intdigest(row.tobytes()[:-8], seed=number) != row["row_checksum"]:
                break
            found[row["sha256"].decode()] = file["blob"][int(row["offset"]) :][: int(row["size"])].tobytes()
    return found


def test_the_stranger_imports_nothing_of_ours() -> None:
    imported = set()
    for node in ast.walk(ast.parse(STRANGER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - {"__future__"} <= ALLOWED


def test_what_the_stranger_sent_is_what_the_dataset_has(sink: RunningSink, tmp_path: Path) -> None:
    sent = run_stranger(sink.endpoint)

    assert sorted(sent["committed"]) == [0, 1, 2, 3]
    assert sent["sessions"] >= 3, "both losses happened"
    assert 0 in sent["answers"][1]["leased"], "the episode cut in the middle is sent again from its begin"
    shard = tmp_path / "stranger" / "two_cameras" / "000000.h5"
    assert read_dataset(shard, sent["spec"]) == sent["episodes"], "while the sink is running"

    assert sink.stop(signal.SIGTERM) == 0, "".join(sink.log)
    assert read_dataset(shard, sent["spec"]) == sent["episodes"], "after it has stopped"
    document = bytes.fromhex(sent["document"])
    assert read_documents(shard) == {hashlib.sha256(document).hexdigest(): document}
    assert not [line for line in sink.log if "ERROR" in line or "WARNING" in line], "".join(sink.log)


def test_the_frames_are_the_pictures_that_the_stranger_drew(sink: RunningSink, tmp_path: Path) -> None:
    sent = run_stranger(sink.endpoint)
    stored = read_dataset(tmp_path / "stranger" / "two_cameras" / "000000.h5", sent["spec"])
    height, width = 24, 32
    row, column = np.mgrid[0:height, 0 : 3 * width]
    drawn = ((37 * 3 + 11 * 5 + 5 * row + column) % 256).astype(np.uint8).reshape(height, width, 3)
    found = simplejpeg.decode_jpeg(bytes.fromhex(stored["3"]["frames"]["front"][5]))
    assert np.array_equal(found, simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(drawn, quality=90)))
