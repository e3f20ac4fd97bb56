"""Every file under deploy/ describes a collection for every engine, in words that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tyro
import yaml

from deploy.kubernetes.manifests import render_manifests
from deploy.slurm.plan import plan_jobs
from deploy.systemd.units import render_units
from deploy.topology import SIMULATORS, Security, Topology, absolute, read_topology
from inference.__main__ import InferFlags
from producers import simulators
from sink.__main__ import SinkFlags
from trainer.models import Flags as ModelsFlags
from trainer.namo.train import TrainFlags, TrainGoalFlags

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy").glob("*.example.toml"))
HOME = Path("/home/me")


def example(path: Path) -> Topology:
    """With an interpreter that units may name."""
    topology = read_topology(path)
    systemd = msgspec.structs.replace(topology.systemd, python="/usr/bin/python3")
    return msgspec.structs.replace(topology, systemd=systemd)


def check(words: list[str]) -> str:
    """Let the program's own flags read the words behind `headrace`, or behind a script that has --resume added.

    Returns what it is.
    """
    match words[words.index("deploy.main") + 1 :]:
        case ["sink", *rest]:
            tyro.cli(SinkFlags, args=rest)
            return "sink"
        case ["infer", *rest]:
            tyro.cli(InferFlags, args=rest)
            return "infer"
        case ["produce", simulator, *rest]:
            chosen = simulators.SIMULATORS[simulator]
            chosen.check(tyro.cli(chosen.flags, args=rest))
            return simulator
        case ["train", what, *rest]:
            kind: Any = TrainGoalFlags if what == "goal" else TrainFlags
            tyro.cli(kind, args=rest + (["--resume"] if "/bin/sh" in words else []))
            return what
        case ["models", *rest]:
            flags: Any = ModelsFlags
            tyro.cli(flags, args=rest)
            return "models"
        case other:
            raise AssertionError(f"what is {other}?")


def programs(topology: Topology) -> list[str]:
    """What it starts, each kind once for each table."""
    found = ["sink", *(str(each.simulator) for each in topology.producers)]
    found += [each.what for each in topology.trainers]
    return sorted(found + (["infer", "models"] if topology.inference is not None else []))


def test_the_topology_knows_the_simulators_that_there_are() -> None:
    assert tuple(simulators.SIMULATORS) == SIMULATORS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("user", [False, True])
def test_units(path: Path, user: bool) -> None:
    topology = example(path)
    started = []
    for unit in render_units(topology, HOME, user).files.values():
        for command in re.findall(r"^ExecStart(?:Pre)?=(.*deploy\.main.*)$", unit, re.MULTILINE):
            words = shlex.split(command)
            started.append(check([word.replace("%%", "%").replace("$$", "$") for word in words]))
    assert sorted(started) == programs(topology)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_manifests(path: Path) -> None:
    topology = example(path)
    if topology.security is None:
        topology = msgspec.structs.replace(topology, security=Security("keys"))
    started = []
    for text in render_manifests(topology, HOME, False).files.values():
        for each in yaml.safe_load_all(text):
            pod = each.get("spec", {}).get("template", {}).get("spec", {})
            for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
                started.append(check([word.replace("$$", "$") for word in container["command"]]))
    assert sorted(started) == programs(topology)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_jobs(path: Path) -> None:
    topology = absolute(example(path), HOME)
    names = [job.name for job in plan_jobs(topology, HOME).jobs]
    assert names[0] == "servers"
    assert [name for name in names if name.startswith("producers")] == [
        f"producers-{number}" for number in range(len(topology.producers))
    ]
