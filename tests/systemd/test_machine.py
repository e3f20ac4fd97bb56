"""Rendered units under a real systemd: they start in order, are watched, restarted, drained, and cannot reach more."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.key_files import add_client, add_sink, allow
from deploy.rendered import write
from deploy.systemd.units import render_units
from deploy.topology import read_topology
from protocol.announcement import read_announcement
from protocol.dataset_view import DatasetView
from protocol.published import version_names
from tests.fakes import CheckingReader
from tests.processes import wait_until
from tests.systemd.machine import ENVIRONMENT, PYTHON, Machine, missing

SUCCESSES = 40
SINK, INFERENCE, TRAINER, PRODUCERS, PRYING = (
    "headrace-sink.service",
    "headrace-inference.service",
    "headrace-train-object.service",
    "headrace-producer-{}@0.service",
    "headrace-producer-1@0.service",
)
WORKER = "headrace-producer-0@{}.service"
# What systemd and shells would take apart.
DATA = 'arms 100% $HOME "x"'
TOPOLOGY = """
name = "lab"
[sink]
data = '{data}'
bind = "tcp://127.0.0.1:5555"
keys = "keys"
memory_mib = 192
shard_mib = 2
flags = {{ max-producers = 16, lease-s = 2.0 }}
[inference]
models = "models/namo"
flags = {{ threads = 1, http = "127.0.0.1:9465" }}
[[producers]]
program = ["{python}", "-m", "tests.slurm.counting_worker", "{successes}", "0.05"]
count = 2
key = "keys/clients/lab.key"
[[producers]]
program = ["{python}", "-m", "tests.systemd.pry", "{state}/keys/sink.key", '{state}/{data}/sink.lock']
[systemd]
python = "{python}"
environment = {{ PYTHONPATH = "{PYTHONPATH}", LD_LIBRARY_PATH = "{LD_LIBRARY_PATH}" }}
"""


LEARNING = """
name = "lab"
[sink]
data = "d"
memory_mib = 192
shard_mib = 2
flags = {{ max-producers = 16 }}
[inference]
models = "models/namo"
flags = {{ threads = 1 }}
[[trainers]]
what = "object"
flags = {{ threads = 1 }}
[[producers]]
simulator = "namo"
workers = 1
flags = {{ end-idx = 6, difficulty = "easy" }}
[[producers]]
simulator = "robosuite"
workers = 1
flags = {{ env = "Lift", episodes = 1, camera-height = 96, camera-width = 96 }}
[systemd]
python = "{python}"
environment = {{ PYTHONPATH = "{PYTHONPATH}", LD_LIBRARY_PATH = "{LD_LIBRARY_PATH}" }}
"""


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Make a machine with the units of a topology, given as text; faster where a test would wait."""
    if why := missing():
        pytest.skip(f"no systemd of its own: {why}")
    with ExitStack() as machines:

        def make(text: str) -> Machine:
            file = tmp_path / "lab.toml"
            state = "/var/lib/headrace"
            file.write_text(text.format(python=PYTHON, successes=SUCCESSES, data=DATA, state=state, **ENVIRONMENT))
            write(render_units(read_topology(file), tmp_path, user_manager=False), tmp_path / "rendered", force=False)
            made = Machine(tmp_path, tmp_path / "rendered")
            made.override(SINK, "RestartSec=100ms\nWatchdogSec=5\n")
            return machines.enter_context(made)

        yield make


def _make_keys(machine: Machine) -> None:
    """As the operator does it, for the user of the units."""
    home = machine.state / "lib" / "headrace"
    machine.run("install", "-d", "-o", "headrace", "-g", "headrace", "-m", "0750", "/var/lib/headrace")
    public = add_client(home / "keys", "lab", add_sink(home / "keys").public).public
    allow(home / "keys", "lab", public)
    machine.run("chown", "-R", "headrace:headrace", "/var/lib/headrace/keys")


def test_a_collection_under_systemd(boot: Callable[[str], Machine]) -> None:
    machine = boot(TOPOLOGY)
    _make_keys(machine)
    home = machine.state / "lib" / "headrace"
    announced = home / f"{DATA}.collection" / "sink.json"
    machine.systemctl("start", "--no-block", "headrace.target")
    machine.wait_for(SINK, "ActiveState", "active", 120)
    assert machine.shows(SINK, "StatusText").startswith(("ready, producers at tcp://127.0.0.1:5555", "0 episodes"))
    assert os.stat(f"/proc/{machine.pid(SINK)}").st_uid == home.stat().st_uid != 0
    machine.wait_for(INFERENCE, "ActiveState", "active", 120)
    machine.wait_for(PRYING, "SubState", "dead", 60)
    assert machine.shows(PRYING, "Result") == "success", machine.log()

    # Killed, and standing still: it comes back, and producers go on.
    os.kill(machine.pid(SINK), signal.SIGKILL)
    machine.wait_for(SINK, "NRestarts", "1")
    machine.wait_for(SINK, "ActiveState", "active")
    wait_until(lambda: read_announcement(announced).generation == 2, "the second life is announced")
    os.kill(machine.pid(SINK), signal.SIGSTOP)
    machine.wait_for(SINK, "NRestarts", "2")
    machine.wait_for(SINK, "ActiveState", "active")
    for number in range(2):
        machine.wait_for(WORKER.format(number), "SubState", "dead", 120)
        assert machine.shows(WORKER.format(number), "Result") == "success", machine.log()
    assert len(CheckingReader(home / DATA).successes) == SUCCESSES

    machine.systemctl("stop", "headrace.target")
    for unit in (SINK, INFERENCE):
        machine.wait_for(unit, "SubState", "dead", 60)
        assert (machine.shows(unit, "SubState"), machine.shows(unit, "Result")) == ("dead", "success"), machine.log()
    assert read_announcement(announced).stopped is not None


def test_simulators_models_and_a_trainer_run_within_their_reach(boot: Callable[[str], Machine]) -> None:
    """Drawing, torch and compiled loops make machine code and caches; all that has to be allowed."""
    machine = boot(LEARNING)
    home = machine.state / "lib" / "headrace"
    machine.systemctl("start", "--no-block", "headrace.target")
    for unit in (PRODUCERS.format(number) for number in range(2)):
        machine.wait_for(unit, "ActiveState", "active", 120)
        machine.wait_for(unit, "SubState", "dead", 150)
        assert (machine.shows(unit, "Result"), machine.shows(unit, "NRestarts")) == ("success", "0"), machine.log()
    with DatasetView(home / "d") as view:
        streams = Counter(episode.shard.spec.name for episode in view.new_episodes())
    assert streams["namo/all_easy"] == 6
    assert streams["robosuite/Lift"] >= 1

    wait_until(lambda: "object: step 50: " in machine.log(), "the trainer makes steps", 120)
    machine.systemctl("stop", "headrace.target")
    for unit in (TRAINER, INFERENCE, SINK):
        machine.wait_for(unit, "SubState", "dead", 100)
        assert machine.shows(unit, "Result") == "success", machine.log()
    assert len(version_names(home / "models" / "namo", "object")) == 2, "a trainer that is stopped publishes"
