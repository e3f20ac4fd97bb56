"""`headrace up` from a topology file: two streams with different schemas in one sink, and a clean Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import h5py

from tests.fakes import CheckingReader, counting_spec, first_successes
from tests.processes import REPOSITORY
from tests.system.test_robosuite import until

TOPOLOGY = """
[sink]
data = "{data}"
shard_mib = 16

[[producers]]
simulator = "robosuite"
workers = 1
flags = {{ env = "PickPlaceCan", episodes = {episodes}, camera-height = 48, camera-width = 64 }}

[[producers]]
simulator = "robosuite"
workers = 1
flags = {{ env = "Lift", episodes = {episodes}, camera-names = ["frontview"], camera-height = 60, camera-width = 80 }}
"""


def up(folder: Path, episodes: int) -> subprocess.Popen[str]:
    """Start it in a folder."""
    topology = folder / "topology.toml"
    topology.write_text(TOPOLOGY.format(data=folder / "data", episodes=episodes))
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.main", "up", str(topology)], stderr=subprocess.PIPE, text=True
    )


def test_two_streams_with_different_schemas_fill_one_dataset(tmp_path: Path) -> None:
    process = up(tmp_path, episodes=2)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert "done:" in said
    for stream, camera, shape in (("PickPlaceCan", "agentview", (48, 64)), ("Lift", "frontview", (60, 80))):
        with h5py.File(tmp_path / "data" / "robosuite" / stream / "000000.h5", "r") as file:
            rows = file["episodes"][:]
            assert (rows["outcome"] == 1).sum() == 2
            assert file[f"steps/images/{camera}"][0]["size"] > 0
            spec = json.loads(bytes(file.attrs["stream_spec"]))
            sizes = {(found["height"], found["width"]) for found in spec["cameras"]}
            assert sizes == {shape}
    verified = subprocess.run(
        [sys.executable, "-m", "deploy.main", "verify", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_ctrl_c_stops_everything_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = up(tmp_path, episodes=500)
    producers = tmp_path / "data" / "logs" / "producers-0.log"
    until(lambda: (tmp_path / "data" / "robosuite" / "Lift").exists(), "the first producer", process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert "every acknowledged episode is in" in said
    assert "To go on: headrace up" in said
    assert "every acknowledged episode is stored" in producers.read_text()
    assert "stopped; every acknowledged episode" in (tmp_path / "data" / "logs" / "sink.log").read_text()


def test_programs_of_ones_own_publish_with_keys_that_were_made(tmp_path: Path) -> None:
    topology = tmp_path / "own.toml"
    program = [sys.executable, "-m", "tests.slurm.counting_worker", "8", "0.001"]
    topology.write_text(
        f'[sink]\ndata = "{tmp_path}/data"\nshard_mib = 1\n[security]\nkeys = "{tmp_path}/keys"\n'
        f"[[producers]]\nprogram = {json.dumps(program)}\ncount = 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "deploy.main", "up", str(topology)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    checked = CheckingReader(tmp_path / "data")
    assert checked.successes == list(first_successes(counting_spec(), 8))
    assert {stored.producer for stored in checked.stored.values()} <= {"producers-0.0", "producers-0.1"}
    assert (tmp_path / "keys" / "clients" / "producers.key").exists()
