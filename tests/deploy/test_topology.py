"""A topology file is read whole or refused with the place of the fault."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deploy.topology import LocalFlags, local_topology, read_topology
from protocol.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "topology.example.toml"
FLYWHEEL = EXAMPLE.with_name("flywheel.example.toml")


def test_the_example_is_a_topology_and_its_words_are_commands() -> None:
    topology = read_topology(EXAMPLE)
    can, lift = topology.producers
    assert topology.sink.words()[:2] == ["--bind", "tcp://127.0.0.1:0"]
    words = lift.words("tcp://127.0.0.1:7")
    assert words[:6] == ["produce", "robosuite", "--sink", "tcp://127.0.0.1:7", "--workers", "1"]
    assert words[words.index("--camera-names") + 1] == "agentview"
    assert can.words("x")[6:8] == ["--env", "PickPlaceCan"]


def test_the_flywheel_example_has_commands_for_all_its_programs(tmp_path: Path) -> None:
    topology = read_topology(FLYWHEEL)
    assert topology.inference is not None
    assert topology.inference.words() == ["--threads", "1"]
    assert topology.inference.words("sink_keys") == ["--keys", "sink_keys", "--threads", "1"]
    own = msgspec.structs.replace(topology.inference, keys="own")
    assert own.words("sink_keys")[:2] == ["--keys", "own"]
    objects, goals = topology.trainers
    words = objects.words(Path("d"), Path("m"), Path("o"))
    assert words[:9] == ["train", "object", "--data", "d", "--publish", "m", "--out", "o", "--follow"]
    assert goals.words(Path("d"), Path("m"), tmp_path)[9:] == ["--publish-every", "2", "--threads", "1"]
    (tmp_path / "checkpoint.safetensors").touch()
    assert "--resume" in goals.words(Path("d"), Path("m"), tmp_path)
    led, alone = topology.producers
    words = led.words("s", "tcp://here:1")
    assert words[words.index("--inference") + 1] == "tcp://here:1"
    assert "--inference" not in alone.words("s", "tcp://here:1")


def test_flags_make_the_same_kind_of_topology(tmp_path: Path) -> None:
    topology = local_topology(LocalFlags(tmp_path, "Lift", 3, 2))
    assert topology.sink.data == str(tmp_path)
    assert topology.producers[0].words("e")[-4:] == ["--env", "Lift", "--episodes", "3"]


def test_keys_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        '[sink]\ndata = "d"\nbind = "tcp://0.0.0.0:5555"\nkeys = "k"\n'
        '[[producers]]\nsimulator = "robosuite"\nkey = "k/clients/here.key"\n'
    )
    topology = read_topology(path)
    assert topology.sink.words()[-2:] == ["--keys", "k"]
    assert topology.producers[0].words("e")[-2:] == ["--key", "k/clients/here.key"]


def test_a_switch_is_written_as_a_switch(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        '[sink]\ndata = "d"\n[[producers]]\nsimulator = "robosuite"\nflags = { keep-failures = true, plain = false }\n'
    )
    words = read_topology(path).producers[0].words("e")
    assert "--keep-failures" in words
    assert "--no-plain" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sink", "is no TOML"),
        ('[sink]\ndata = "d"', "missing required field `producers`"),
        ('[sink]\nfolder = "d"', "unknown field `folder`"),
        ('[sink]\ndata = "d"\n[[producers]]\nsimulator = "robosuite"\nworkers = 0', "$.producers[0].workers"),
        ('[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\nasks = true', "add [inference]"),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\n[[trainers]]\nwhat = "goal"',
            "the trainer of goal publishes for an inference server",
        ),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\n[inference]\nmodels = "m"\n'
            '[[trainers]]\nwhat = "goal"\n[[trainers]]\nwhat = "goal"',
            "one trainer of each kind",
        ),
        ('producers = []\n[sink]\ndata = "d"', "$.producers"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_topology(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_topology(tmp_path / "none.toml")
