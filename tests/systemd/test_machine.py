"""Rendered units under a real systemd: they start in order, are watched, restarted, drained, and cannot reach more."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.rendered import Rendered, write
from deploy.systemd.units import render_units
from deploy.topology import read_topology
from protocol.announcement import read_announcement
from protocol.dataset_view import DatasetView
from protocol.published import version_names
from tests.fakes import CheckingReader
from tests.processes import wait_until
from tests.systemd.machine import ASK_S, ENVIRONMENT, PYTHON, Machine, missing

SUCCESSES = 40
SINK, INFERENCE, TRAINER = "headrace-sink.service", "headrace-inference.service", "headrace-train-object.service"
COUNTING, PRYING, PLANNER, SIMULATOR = (f"headrace-producer-{number}@{{}}.service" for number in range(4))
# What systemd and shells would take apart.
DATA = 'arms 100% $HOME "x"'
TOPOLOGY = """
name = "lab"
[sink]
data = '{data}'
bind = "tcp://127.0.0.1:5555"
memory_mib = 192
shard_mib = 2
flags = {{ max-producers = 16, lease-s = 5.0 }}
[security]
keys = "keys"
client = "lab"
[inference]
models = "models/namo"
flags = {{ threads = 1, http = "127.0.0.1:9465" }}
[[trainers]]
what = "object"
flags = {{ threads = 1 }}
[[producers]]
program = ["{python}", "-m", "tests.slurm.counting_worker", "{successes}", "0.05"]
count = 2
[[producers]]
program = ["{python}", "-m", "tests.systemd.pry", "{state}/keys/sink.key", '{state}/{data}/sink.lock']
[[producers]]
simulator = "namo"
workers = 1
asks = true
flags = {{ end-idx = 6, difficulty = "easy", object-strategy = "ml", ml-object-model = "object", stream = "namo/led" }}
[[producers]]
simulator = "robosuite"
workers = 1
flags = {{ env = "Lift", episodes = 1, camera-height = 96, camera-width = 96 }}
[systemd]
python = "{python}"
environment = {{ PYTHONPATH = "{PYTHONPATH}", LD_LIBRARY_PATH = "{LD_LIBRARY_PATH}" }}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One with the rendered units and the keys; faster where a test would wait."""
    if why := missing():
        pytest.skip(f"no systemd of its own: {why}")
    file = tmp_path / "lab.toml"
    state = "/var/lib/headrace"
    file.write_text(TOPOLOGY.format(python=PYTHON, successes=SUCCESSES, data=DATA, state=state, **ENVIRONMENT))
    rendered = render_units(read_topology(file), tmp_path, user_manager=False)
    write(rendered, tmp_path / "rendered", force=False)
    made = Machine(tmp_path, tmp_path / "rendered")
    made.override(SINK, "RestartSec=100ms\nWatchdogSec=8\n")
    with made:
        _make_keys(made, rendered)
        yield made


def _make_keys(machine: Machine, rendered: Rendered) -> None:
    """As the operator is told to; the user and the units are there by then."""
    steps = [step for step in rendered.then if step.startswith(("install ", "runuser "))]
    assert [step.split()[-1] for step in steps] == ["/var/lib/headrace", "/var/lib/headrace/keys", "lab"]
    variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    for step in steps:
        machine.run("env", "--chdir", "/", *variables, "sh", "-c", step)


def test_a_collection_under_systemd(machine: Machine) -> None:
    """One boot for all of it: what takes long are the programs' own beginnings, and they begin together."""
    home = machine.state / "lib" / "headrace"
    announced = home / f"{DATA}.collection" / "sink.json"
    machine.systemctl("start", "--no-block", "headrace.target")
    machine.wait_for(SINK, "ActiveState", "active", 120)
    assert machine.shows(SINK, "StatusText").startswith(("ready, producers at tcp://127.0.0.1:5555", "0 episodes"))
    assert os.stat(f"/proc/{machine.pid(SINK)}").st_uid == home.stat().st_uid != 0
    machine.wait_for(INFERENCE, "ActiveState", "active", 120)
    _it_comes_back(machine, home / DATA, announced)

    # Drawing, torch and compiled loops make machine code and caches; all that has to be allowed. Prying is not.
    for unit in (PRYING.format(0), COUNTING.format(0), COUNTING.format(1), PLANNER.format(0)):
        _ends_well(machine, unit)
    wait_until(lambda: "object: step 50: " in machine.log(), "the trainer makes steps", 120, ASK_S)
    machine.systemctl("stop", TRAINER)
    assert len(version_names(home / "models" / "namo", "object")) == 2, "a trainer that is stopped publishes"
    _ends_well(machine, SIMULATOR.format(0))
    machine.systemctl("stop", "headrace.target")
    for unit in (TRAINER, INFERENCE, SINK):
        _ends_well(machine, unit)
    assert read_announcement(announced).stopped is not None
    assert len(CheckingReader(home / DATA).successes) == SUCCESSES
    with DatasetView(home / DATA) as view:
        stored = Counter(episode.shard.spec.name for episode in view.new_episodes())
    assert stored["namo/led"] == 6
    assert stored["robosuite/Lift"] >= 1


def _ends_well(machine: Machine, unit: str) -> None:
    """By itself, or because it was stopped. The sink's restarts are the test's."""
    machine.wait_for(unit, "SubState", "dead", 150)
    assert machine.shows(unit, "Result") == "success", machine.log()
    assert unit == SINK or machine.shows(unit, "NRestarts") == "0", machine.log()


def _it_comes_back(machine: Machine, data: Path, announced: Path) -> None:
    """A sink that is killed, and one that stands still; producers go on."""
    with DatasetView(data) as view:
        wait_until(view.refresh, "an episode is stored", 120, ASK_S)
    os.kill(machine.pid(SINK), signal.SIGKILL)
    machine.wait_for(SINK, "NRestarts", "1")
    machine.wait_for(SINK, "ActiveState", "active")
    wait_until(lambda: read_announcement(announced).generation == 2, "the second life is announced")
    os.kill(machine.pid(SINK), signal.SIGSTOP)
    machine.wait_for(SINK, "NRestarts", "2")
    machine.wait_for(SINK, "ActiveState", "active")
