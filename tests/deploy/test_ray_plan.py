"""What Ray is asked for, and whether a cluster can have it; no Ray is needed for this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploy.main import main
from deploy.ray.plan import Actor, RayPlan, namespace_of, plan_actors
from deploy.ray.report import Report, read_report, report_file, write_report
from deploy.ray.room import NodeRoom, check_room
from deploy.record import Record, check_engine, write_record
from deploy.topology import Topology, absolute, read_topology
from protocol.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "ray.example.toml"
FLYWHEEL = EXAMPLE.with_name("flywheel.example.toml")
HOME = Path("/home/me")
GIB = 1 << 30


def plan_of(path: Path) -> RayPlan:
    """As submitted from a home directory, for the third time."""
    return plan_actors(absolute(read_topology(path), HOME), HOME, 3)


def actor(plan: RayPlan, name: str) -> Actor:
    """One of them."""
    return next(each for each in plan.actors if each.name == name)


def test_the_example_becomes_actors() -> None:
    plan = plan_of(EXAMPLE)
    assert [each.name for each in plan.actors[:3]] == ["sink", "producers-0.0", "producers-0.1"]
    assert len(plan.actors) == 1 + 64
    sink, producer = actor(plan, "sink"), actor(plan, "producers-1.31")
    assert sink.options() == {
        "num_cpus": 2,
        "num_gpus": 0,
        "memory": 6 * GIB,
        "label_selector": {"dataset": "here"},
        "max_restarts": 5,
    }
    assert producer.options() == {
        "num_cpus": 4,
        "num_gpus": 0,
        "memory": 8 * GIB,
        "scheduling_strategy": "SPREAD",
        "max_restarts": 5,
    }
    folder = "/home/me/runs/two_arms.collection"
    assert sink.orders.words()[:4] == [sys.executable, "-m", "deploy.main", "sink"]
    assert sink.orders.words()[-2:] == ["--announce", f"{folder}/sink.json"]
    words = producer.orders.words()
    assert words[words.index("--sink") + 1] == f"{folder}/sink.json"
    assert words[words.index("--key") + 1] == "/home/me/runs/two_arms.keys/clients/cluster.key"
    variables = producer.orders.variables({"HEADRACE_KEY": "of a shell", "PATH": "/bin"})
    assert variables["HEADRACE_NAME"] == "producers-1.31"
    assert variables["MUJOCO_GL"] == "egl"
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["PATH"] == "/bin"
    assert "HEADRACE_KEY" not in variables
    assert sink.orders.log == Path(folder, "logs/sink-g3.log")


def test_a_collection_that_learns_has_all_roles() -> None:
    plan = plan_of(FLYWHEEL)
    assert [each.kind for each in plan.actors[:2]] == ["servers", "servers"]
    assert {each.name for each in plan.named("trainers")} == {"train-object", "train-goal"}
    preparation = actor(plan, "inference").orders.preparation()
    assert preparation is not None
    assert preparation[3:5] == ["models", "init"]


def test_placement_of_one_kind_is_over_that_of_all() -> None:
    file = {
        "sink": {"data": "d"},
        "producers": [{"simulator": "robosuite", "resources": {"gpus": 1}}],
        "ray": {
            "labels": {"zone": "a", "disk": "slow"},
            "resources": {"licence": 1},
            "servers": {"labels": {"disk": "fast"}},
        },
    }
    plan = plan_actors(msgspec.convert(file, Topology), HOME, 1)
    assert actor(plan, "sink").options()["label_selector"] == {"zone": "a", "disk": "fast"}
    producer = actor(plan, "producers-0.0").options()
    assert producer["label_selector"] == {"zone": "a", "disk": "slow"}
    assert (producer["num_gpus"], producer["resources"]) == (1, {"licence": 1})


def test_two_collections_of_one_name_have_two_namespaces() -> None:
    here = absolute(read_topology(EXAMPLE), HOME)
    there = absolute(read_topology(EXAMPLE), Path("/home/you"))
    assert namespace_of(here).startswith("headrace-two_arms-")
    assert namespace_of(here) != namespace_of(there)


def test_print_only_prints_and_does_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    imported = "ray" in sys.modules
    assert main(["submit", str(EXAMPLE), "--ray", "--print-only"]) == 0
    said = capsys.readouterr().out
    assert "# actor sink: num_cpus=2" in said
    assert "# 32 actors producers-1.N: num_cpus=4" in said
    assert not list(tmp_path.iterdir())
    assert ("ray" in sys.modules) == imported, "printing needs none"


def node(labels: dict[str, str] | None = None, **resources: float) -> NodeRoom:
    """An empty node."""
    return NodeRoom("10.0.0.7", {"node:10.0.0.7": 1.0, "memory": 64.0 * GIB, **resources}, labels or {})


def test_what_no_node_has_is_told_with_what_there_is() -> None:
    actors = plan_of(EXAMPLE).actors
    here = {"dataset": "here", "ray.io/node-id": "ab12"}
    check_room(actors, [node(here, CPU=8)])
    with pytest.raises(ConfigurationError) as unlabelled:
        check_room(actors, [node({"dataset": "there"}, CPU=8)])
    assert "sink asks for 2 CPU, 6144 MiB of memory on a node with the label dataset=here" in str(unlabelled.value)
    assert "10.0.0.7 has 8 CPU, 65536 MiB of memory, label dataset=there" in str(unlabelled.value)
    with pytest.raises(ConfigurationError, match=r"producers-0\.0 asks for 4 CPU, 8192 MiB .* which no node"):
        check_room(actors, [node(here, CPU=2), node(CPU=3)])
    with pytest.raises(ConfigurationError, match=r"sink together ask for 2 CPU.*and producers-0\.0 for 4 CPU") as both:
        check_room(actors, [node(here, CPU=4)])
    assert "all nodes have 4 CPU" in str(both.value)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"address": "ray://head:10001"}, "address"),
        ({"labels": {"zone": "!a"}}, "labels"),
        ({"resources": {"licence": 0}}, "resources"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"environment": {"A=B": "c"}}, "environment"),
    ],
)
def test_bad_tables_are_refused(table: dict[str, object], named: str) -> None:
    file = {"sink": {"data": "d"}, "producers": [{"simulator": "robosuite"}], "ray": table}
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(file, Topology)


def test_a_typo_names_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[sink]\ndata = "d"\n[[producers]]\nsimulator = "robosuite"\n[ray]\nadress = "h:1"\n')
    with pytest.raises(ConfigurationError, match=r"\[ray\] has the unknown key `adress`; did you mean `address` in \["):
        read_topology(file)


def test_one_engine_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", str(EXAMPLE)]) == 1
    assert main(["submit", str(EXAMPLE), "--ray", "--slurm"]) == 1
    said = capsys.readouterr().err.splitlines()
    engines = "--slurm, --ray, or --hosts a,b,c"
    assert said == [f"headrace submit: expected one engine: headrace submit {EXAMPLE} {engines}"] * 2


def test_a_collection_of_another_engine_is_ended_first(tmp_path: Path) -> None:
    record = Record("slurm", "a", 1, "a.toml", "data", 0.0)
    write_record(tmp_path, record)
    check_engine(record, "slurm", tmp_path)
    with pytest.raises(ConfigurationError, match=r"was to slurm; end it with: headrace cancel a\.toml; then remove"):
        check_engine(record, "ray", tmp_path)


def test_a_report_is_of_one_generation(tmp_path: Path) -> None:
    report = Report("sink", 2, 1, "RUNNING", "10.0.0.7", 1.0)
    report_file(tmp_path, "sink").parent.mkdir()
    assert read_report(tmp_path, "sink", 2) is None
    write_report(tmp_path, report)
    assert read_report(tmp_path, "sink", 2) == report
    assert read_report(tmp_path, "sink", 3) is None, "that of an earlier submission"
    report_file(tmp_path, "sink").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"sink\.json: expected what an actor"):
        read_report(tmp_path, "sink", 2)


@pytest.mark.parametrize("command", [("submit", "--ray"), ("status",), ("cancel",)])
def test_without_ray_one_sentence_says_what_to_install(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[sink]\ndata = "data"\n[[producers]]\nsimulator = "robosuite"\n')
    folder = tmp_path / "data.collection"
    if command[0] != "submit":
        folder.mkdir()
        write_record(folder, Record("ray", "a", 1, str(file), "data", 0.0, address="10.0.0.1:6379"))
    program = "import sys; sys.modules['ray'] = None; from deploy.main import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", program, command[0], str(file), *command[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"headrace {command[0]}: Ray is not installed here; install the release that your cluster has: "
        "pip install 'headrace[ray]'\n"
    )
