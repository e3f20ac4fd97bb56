"""A topology file is read whole or refused with the place of the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.collection_keys import ensure_keys
from deploy.roles import Role, roles_of
from deploy.topology import LocalFlags, Resources, Security, Topology, absolute, local_topology, read_topology
from protocol.errors import ConfigurationError
from protocol.keys import read_allowed, read_client_key, read_sink_key

EXAMPLE = Path(__file__).parents[2] / "deploy" / "topology.example.toml"
FLYWHEEL = EXAMPLE.with_name("flywheel.example.toml")


def roles(topology: Topology, logs: Path = Path("logs")) -> dict[str, Role]:
    """By name."""
    return {role.name: role for role in roles_of(topology, logs)}


def read(folder: Path, text: str) -> Topology:
    """A topology from its text."""
    (folder / "t.toml").write_text(text)
    return read_topology(folder / "t.toml")


def test_the_example_is_a_topology_and_its_words_are_commands() -> None:
    topology = read_topology(EXAMPLE)
    assert topology.name == "topology.example"
    sink, can, lift = roles_of(topology, Path("logs"))
    assert sink.words({})[:5] == ["sink", "--data", "runs/two_tasks", "--bind", "tcp://127.0.0.1:0"]
    words = lift.words({"sink": "tcp://127.0.0.1:7"})
    assert words[:4] == ["produce", "robosuite", "--workers", "1"]
    assert words[words.index("--camera-names") + 1] == "agentview"
    assert words[-2:] == ["--sink", "tcp://127.0.0.1:7"]
    assert can.words({"sink": "x"})[4:6] == ["--env", "PickPlaceCan"]


def test_the_flywheel_example_has_commands_for_all_its_programs(tmp_path: Path) -> None:
    found = roles(read_topology(FLYWHEEL), tmp_path)
    assert list(found) == ["sink", "inference", "train-object", "train-goal", "producers-0", "producers-1"]
    shown = ["--trainer", str(tmp_path / "train-object"), str(tmp_path / "train-goal")]
    assert found["sink"].words({})[-5:] == [*shown, "--inference-http", "127.0.0.1:9465"], "for the page"
    served = found["inference"]
    assert served.words({})[-2:] == ["--threads", "1"]
    assert served.prepare is not None
    assert served.prepare.words == ("models", "init", "--models", "runs/flywheel_models")
    words = found["train-object"].words({})
    where = ["--data", "runs/flywheel", "--publish", "runs/flywheel_models", "--out", str(tmp_path / "train-object")]
    assert words == ["train", "object", *where, "--follow", "--publish-every", "2", "--threads", "1"]
    assert found["train-goal"].resume_words() == []
    (tmp_path / "train-goal").mkdir()
    (tmp_path / "train-goal" / "checkpoint.safetensors").touch()
    assert found["train-goal"].resume_words() == ["--resume"]
    addresses = {"sink": "s", "inference": "tcp://here:1"}
    words = found["producers-0"].words(addresses)
    assert words[words.index("--inference") + 1] == "tcp://here:1"
    assert "--inference" not in found["producers-1"].words(addresses)


def test_flags_make_the_same_kind_of_topology(tmp_path: Path) -> None:
    topology = local_topology(LocalFlags(tmp_path, "Lift", 3, 2))
    assert topology.sink.data == str(tmp_path)
    assert roles(topology)["producers-0"].words({"sink": "e"})[4:8] == ["--env", "Lift", "--episodes", "3"]


def test_keys_are_passed_on(tmp_path: Path) -> None:
    found = roles(
        read(
            tmp_path,
            '[sink]\ndata = "d"\nbind = "tcp://0.0.0.0:5555"\nkeys = "k"\n'
            '[[producers]]\nsimulator = "robosuite"\nkey = "k/clients/here.key"\n',
        )
    )
    assert found["sink"].words({})[-2:] == ["--keys", "k"]
    assert found["producers-0"].words({"sink": "e"})[-2:] == ["--key", "k/clients/here.key"]


def test_a_switch_is_written_as_a_switch(tmp_path: Path) -> None:
    flags = "flags = { keep-failures = true, plain = false }"
    words = roles(read(tmp_path, f'[sink]\ndata = "d"\n[[producers]]\nsimulator = "robosuite"\n{flags}\n'))
    assert "--keep-failures" in words["producers-0"].words({"sink": "e"})
    assert "--no-plain" in words["producers-0"].words({"sink": "e"})
    assert "--trainer" not in words["sink"].words({})


FULL = """
name = "lab"
[sink]
data = "runs/lab"
bind = "tcp://0.0.0.0:0"
flags = { lease-s = 5.0 }
[sink.resources]
cpus = 4
memory_mib = 2048
time_limit = "36:00:00"
[inference]
models = "models"
[inference.resources]
gpus = 1
[security]
keys = "keys"
client = "cluster"
[shared]
folder = "/shared/lab"
[[producers]]
simulator = "robosuite"
workers = 3
count = 5
asks = true
[[producers]]
program = ["python", "my_simulator.py", "--fast"]
[slurm]
partition = "long"
"""


def test_resources_security_and_programs_of_ones_own(tmp_path: Path) -> None:
    topology = read(tmp_path, FULL)
    assert (topology.name, topology.folder) == ("lab", Path("/shared/lab"))
    found = roles(topology)
    assert found["sink"].resources == Resources(4, 2048, 0, "36:00:00")
    assert found["sink"].resources.seconds == 36 * 3600
    assert found["sink"].words({})[-4:] == ["--keys", "keys", "--lease-s", "5.0"]
    assert found["inference"].resources.gpus == 1
    served = found["inference"].words({})
    assert served[served.index("--bind") + 1] == "tcp://0.0.0.0:0", "where the sink listens"
    assert served[served.index("--keys") + 1] == "keys", "the sink's"
    own = read(tmp_path, FULL.replace('models = "models"', 'models = "models"\nkeys = "other"'))
    served = roles(own)["inference"].words({})
    assert served[served.index("--keys") + 1] == "other"
    robosuite, own = found["producers-0"], found["producers-1"]
    assert (robosuite.count, robosuite.resources.cpus, robosuite.key) == (5, 3, "keys/clients/cluster.key")
    assert own.resources.cpus == 1
    assert own.words({"sink": "s.json"}) == ["python", "my_simulator.py", "--fast"]
    key = "keys/clients/cluster.key"
    assert own.environment({"sink": "s.json"}) == {"HEADRACE_SINK": "s.json", "HEADRACE_KEY": key}
    assert robosuite.environment({}) == {}


def test_who_asks_a_server_with_keys_shows_it_the_key(tmp_path: Path) -> None:
    text = '[sink]\ndata = "d"\n{keys}\n[inference]\nmodels = "m"\n[[producers]]\nsimulator = "namo"\nasks = true\n'
    addresses = {"sink": "s", "inference": "i"}
    asking = roles(read(tmp_path, text.format(keys='[security]\nkeys = "k"')))["producers-0"].words(addresses)
    assert asking[asking.index("--inference-key") + 1] == asking[asking.index("--key") + 1] == "k/clients/producers.key"
    assert "--inference-key" not in roles(read(tmp_path, text.format(keys="")))["producers-0"].words(addresses)


def test_paths_become_absolute_and_stay_so(tmp_path: Path) -> None:
    topology = absolute(read(tmp_path, FULL), Path("/home/me"))
    assert topology.sink.data == "/home/me/runs/lab"
    assert topology.keys == "/home/me/keys"
    assert topology.folder == Path("/shared/lab"), "it was absolute"
    assert topology.inference is not None
    assert topology.inference.models == "/home/me/models"


def test_without_a_name_and_a_folder_the_file_and_the_dataset_give_them(tmp_path: Path) -> None:
    path = tmp_path / "my lab's file.toml"
    path.write_text('[sink]\ndata = "/d/set"\n[[producers]]\nsimulator = "namo"\n')
    topology = read_topology(path)
    assert topology.name == "my_lab_s_file"
    assert topology.folder == Path("/d/set.collection")


def test_keys_that_are_missing_are_made_and_others_stay(tmp_path: Path) -> None:
    security = Security(str(tmp_path / "keys"), "cluster")
    made = ensure_keys(security)
    assert made == [tmp_path / "keys" / "sink.key", tmp_path / "keys" / "clients" / "cluster.key"]
    key = read_client_key(made[1])
    assert key.sink == read_sink_key(tmp_path / "keys").public
    assert read_allowed(tmp_path / "keys")[0] == {key.public: "cluster"}
    assert ensure_keys(security) == []
    (tmp_path / "keys" / "allowed" / "cluster.pub").unlink()
    with pytest.raises(ConfigurationError, match="perhaps because it was revoked"):
        ensure_keys(security)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sink", "is no TOML"),
        ('[sink]\ndata = "d"', "missing required field `producers`"),
        ('[sink]\nfolder = "d"', "[sink] has the unknown key `folder`; did you mean `folder` in [shared]?"),
        ('[sink]\nmemory_mb = 3', "[sink] has the unknown key `memory_mb`; did you mean `memory_mib` in [sink]?"),
        ('[sink.resources]\ncpu = 3', "[sink.resources] has the unknown key `cpu`; did you mean `cpus` in"),
        ('[sinks]\ndata = "d"', "there is no section or key `sinks`; did you mean `sink`?"),
        ('[slurm]\nquux = 1', "[slurm] has the unknown key `quux`; expected one of: partition, account"),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\npartition = "gpu"',
            "[producers] has the unknown key `partition`; did you mean `partition` in [slurm.producers] or [slurm",
        ),
        ('name = "a b"\n[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"', "$.name"),
        (
            '[sink]\ndata = "d"\nkeys = "a"\n[security]\nkeys = "b"\n[[producers]]\nsimulator = "namo"',
            "[sink] has the keys a, [security] has b; expected one",
        ),
        ('[sink]\ndata = "d"\n[[producers]]\nworkers = 2', "either `simulator` or `program`"),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "nano"',
            "`simulator` 'nano': expected one of robosuite, namo, replay, or a `program` of your own - at `$.producers",
        ),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\nresources = { time_limit = "1 day" }',
            "$.producers[0].resources.time_limit",
        ),
        (
            '[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"\n[slurm]\nextra = ["--a=b\\nrm"]',
            "$.slurm.extra[0]",
        ),
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
