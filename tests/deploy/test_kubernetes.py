"""Manifests that a cluster would take, as far as can be told without one: schemas, kustomize, what refers to what."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes.manifests import render_manifests
from deploy.rendered import Rendered, write
from deploy.topology import Topology, read_topology
from protocol.errors import ConfigurationError
from sink.__main__ import SinkFlags

EXAMPLE = Path(__file__).parents[2] / "deploy" / "kubernetes.example.toml"
DOCKERFILE = EXAMPLE.parent / "docker" / "Dockerfile"
SMALL = '[sink]\ndata = "runs/can"\n[security]\nkeys = "keys"\n[[producers]]\nsimulator = "robosuite"\n{more}'
WORKLOADS = ("StatefulSet", "Deployment", "Job")
# kubernetes-validate knows no kinds that others define.
FOREIGN = ("PodMonitor", "Kustomization", "Component")
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

Json = dict[str, Any]


def read(folder: Path, more: str = "", name: str = "t") -> Topology:
    (folder / f"{name}.toml").write_text(SMALL.format(more=more))
    return read_topology(folder / f"{name}.toml")


def rendered(topology: Topology, cwd: Path = Path("/nowhere"), with_keys: bool = False) -> Rendered:
    return render_manifests(topology, cwd, with_keys)


def objects(files: Rendered) -> list[Json]:
    """All that are no files of kustomize itself."""
    found = [each for text in files.files.values() for each in yaml.safe_load_all(text)]
    return [each for each in found if each["kind"] not in ("Kustomization", "Component")]


def by_kind(found: list[Json], kind: str) -> dict[str, Json]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def container(workload: Json) -> Json:
    """The one of a workload's pod."""
    found: list[Json] = workload["spec"]["template"]["spec"]["containers"]
    assert len(found) == 1
    return found[0]


def check(found: Json) -> None:
    """Against the schema of its kind, without anything that the schema does not know."""
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


@pytest.fixture
def example() -> list[Json]:
    return objects(rendered(read_topology(EXAMPLE)))


def test_every_object_is_what_its_schema_wants(example: list[Json]) -> None:
    kinds = [each["kind"] for each in example]
    for wanted in (
        *WORKLOADS,
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PersistentVolumeClaim",
        "PodMonitor",
    ):
        assert wanted in kinds
    for each in example:
        if each["kind"] not in FOREIGN:
            check(each)


def _places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where numbers and lists are."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _places(value, (*path, key))
    elif isinstance(found, list):
        yield path
        for number, value in enumerate(found):
            yield from _places(value, (*path, number))
    elif isinstance(found, int):
        yield path


def test_the_schemas_would_find_a_wrong_type_wherever_one_is(example: list[Json]) -> None:
    """So the test above can fail: in each object a number or list is made a mapping, and it gets a wrong key."""
    changed = 0
    for each in example:
        if each["kind"] in FOREIGN:
            continue
        places = list(_places(each))
        for path in {places[0], places[len(places) // 2], places[-1]} if places else ():
            wrong = copy.deepcopy(each)
            place = wrong
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = {"wrong": "type"}
            with pytest.raises(kubernetes_validate.ValidationError):
                check(wrong)
            changed += 1
        with pytest.raises(kubernetes_validate.ValidationError):
            check({**each, "sepc": {}})
    assert changed > 30


def no_kubectl() -> str:
    """Why there is none that can render this; empty if there is one. From 1.21 on it knows components."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed; as root `make engines` installs it where Debian has it (13 and later)"
    told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=True, timeout=60)
    version = re.search(r"v(\d+)\.(\d+)\.", told.stdout)
    assert version is not None, told.stdout
    return "" if (int(version[1]), int(version[2])) >= (1, 21) else f"kubectl is older than 1.21: {version[0]}"


@pytest.mark.parametrize("folder", ["base", "overlays/small", "overlays/gpu"])
def test_kustomize_renders_it(tmp_path: Path, folder: str) -> None:
    if why := no_kubectl():
        pytest.skip(why)
    write(rendered(read_topology(EXAMPLE)), tmp_path, force=False)
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path / folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = list(yaml.safe_load_all(done.stdout))
    for each in found:
        if each["kind"] not in FOREIGN:
            check(each)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "two-arms"
    jobs, served = by_kind(found, "Job"), by_kind(found, "Deployment")["two-arms-inference"]
    sink = by_kind(found, "StatefulSet")["two-arms-sink"]
    small, gpu = folder.endswith("small"), folder.endswith("gpu")
    assert jobs["two-arms-producers-0"]["spec"]["completions"] == (1 if small else 16)
    storage = sink["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert storage == ("10Gi" if small else "500Gi")
    for each in (served, jobs["two-arms-producers-0"]):
        assert container(each)["resources"]["limits"].get("nvidia.com/gpu") == ("1" if gpu else None)
        assert container(each)["resources"]["limits"]["memory"] == "8192Mi", "what is not patched stays"
    drawn = {row["name"]: row.get("value") for row in container(jobs["two-arms-producers-0"])["env"]}
    assert drawn.get("MUJOCO_GL") == ("egl" if gpu else None)
    assert drawn["HEADRACE_NAME"] == "producers-0.$(JOB_COMPLETION_INDEX)"
    assert len(by_kind(found, "PodMonitor")) == gpu


def test_names_are_dns_labels_and_labels_are_the_common_ones(example: list[Json]) -> None:
    for each in example:
        assert DNS_LABEL.fullmatch(each["metadata"]["name"])
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "headrace"
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "two-arms"
        if each["kind"] in ("StatefulSet", "Deployment"):
            selected = each["spec"]["selector"]["matchLabels"]
            assert selected.items() <= each["spec"]["template"]["metadata"]["labels"].items()


def test_what_is_referred_to_is_there(example: list[Json]) -> None:
    """Services, ports, claims, accounts and volumes; the commands that are told make Secrets and the ConfigMap."""
    told = "\n".join(rendered(read_topology(EXAMPLE)).then)
    services, claims = by_kind(example, "Service"), by_kind(example, "PersistentVolumeClaim")
    sink = by_kind(example, "StatefulSet")["two-arms-sink"]
    assert sink["spec"]["serviceName"] in services
    made = {f"{each['metadata']['name']}-two-arms-sink-0" for each in sink["spec"]["volumeClaimTemplates"]}
    for workload in (each for each in example if each["kind"] in WORKLOADS):
        pod, found = workload["spec"]["template"]["spec"], container(workload)
        assert pod["serviceAccountName"] in by_kind(example, "ServiceAccount")
        volumes = {each["name"]: each for each in pod["volumes"]}
        templates = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
        assert {each["name"] for each in found["volumeMounts"]} == volumes.keys() | templates
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims.keys() | made
            for source in volume.get("projected", {}).get("sources", ()):
                kind, what = next(iter(source.items()))
                assert f"create {'configmap' if kind == 'configMap' else 'secret generic'} {what['name']} " in told
                assert all(f"/{item['path']}" in told for item in what["items"])
            if "secret" in volume:
                assert f"create secret generic {volume['secret']['secretName']} " in told
        words = found["command"]
        for flag in ("--sink", "--inference"):
            if flag in words:
                host, port = words[words.index(flag) + 1].removeprefix("tcp://").split(":")
                assert int(port) in [each["port"] for each in services[host]["spec"]["ports"]]
    for service in services.values():
        chosen = [w for w in example if w["kind"] in WORKLOADS and _selects(service["spec"]["selector"], w)]
        assert len(chosen) == 1
        names = {each["name"] for each in container(chosen[0])["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= names


def test_prometheus_finds_the_servers_metrics(example: list[Json]) -> None:
    spec = by_kind(example, "PodMonitor")["two-arms"]["spec"]
    (chosen,), (endpoint,) = spec["selector"]["matchExpressions"], spec["podMetricsEndpoints"]
    assert (chosen["key"], chosen["operator"]) == ("app.kubernetes.io/component", "In")
    found = {}
    for workload in (each for each in example if each["kind"] in WORKLOADS):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        if _selects(spec["selector"]["matchLabels"], workload) and labels[chosen["key"]] in chosen["values"]:
            found[labels[chosen["key"]]] = [each["name"] for each in container(workload)["ports"]]
    assert sorted(found) == ["inference", "sink"]
    assert all(endpoint["port"] in ports for ports in found.values())
    assert endpoint["path"] == "/metrics"


def _selects(labels: Json, workload: Json) -> bool:
    return bool(labels.items() <= workload["spec"]["template"]["metadata"]["labels"].items())


def test_only_producers_reach_the_servers(example: list[Json]) -> None:
    policies = by_kind(example, "NetworkPolicy")
    everything = policies["two-arms-deny-all"]["spec"]
    assert set(everything["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everything
    assert "egress" not in everything
    for server in ("sink", "inference"):
        rules = policies[f"two-arms-{server}-clients"]["spec"]["ingress"]
        ports = {rule["ports"][0]["port"]: rule["from"] for rule in rules}
        peers = [each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in ports[server]]
        assert peers == ["producer"]
        assert "namespaceSelector" in ports["http"][0]
    for workload in (each for each in example if each["kind"] in WORKLOADS):
        assert _selects(everything["podSelector"]["matchLabels"], workload)


def test_pods_are_unprivileged_and_drain(example: list[Json]) -> None:
    for workload in (each for each in example if each["kind"] in WORKLOADS):
        pod, found = workload["spec"]["template"]["spec"], container(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for each in (found, *pod.get("initContainers", ())):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert pod["terminationGracePeriodSeconds"] > 30
    sink = container(by_kind(example, "StatefulSet")["two-arms-sink"])
    assert sink["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert sink["livenessProbe"]["httpGet"]["path"] == "/metrics", "a full disk is no reason to be killed"
    assert "--http-without-keys" in sink["command"]


def test_addresses_of_one_machine_become_those_of_pods(tmp_path: Path) -> None:
    more = '[inference]\nmodels = "m"\nflags = { http = "127.0.0.1:9465", bind = "tcp://127.0.0.1:7", threads = 1 }'
    served = by_kind(objects(rendered(read(tmp_path, more))), "Deployment")["t-inference"]
    words = container(served)["command"]
    assert "0.0.0.0:9464" in words
    assert "tcp://0.0.0.0:5556" in words
    assert not any("127.0.0.1" in word for word in words)


def test_the_command_of_the_sink_is_one_that_it_takes(example: list[Json]) -> None:
    import tyro

    words = container(by_kind(example, "StatefulSet")["two-arms-sink"])["command"]
    assert words[:5] == ["python", "-P", "-m", "deploy.main", "sink"]
    flags = tyro.cli(SinkFlags, args=words[5:])
    assert (str(flags.data), flags.bind, flags.http) == ("/data/two_arms", "tcp://0.0.0.0:5555", "0.0.0.0:9464")
    assert (str(flags.keys), flags.http_without_keys) == ("/etc/headrace/keys", True)


def test_dollars_are_not_taken_for_variables(tmp_path: Path) -> None:
    more = '[[producers]]\nprogram = ["/bin/x", "$(HOME) $$ %"]\ncount = 3'
    job = by_kind(objects(rendered(read(tmp_path, more))), "Job")["t-producers-1"]
    check(job)
    assert container(job)["command"] == ["/bin/x", "$$(HOME) $$$$ %"]
    named = {row["name"]: row.get("value") for row in container(job)["env"]}
    assert (named["HEADRACE_SINK"], named["HEADRACE_KEY"]) == (
        "tcp://t-sink:5555",
        "/etc/headrace/client/producers.key",
    )
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[sink]\ndata = "d"\n[[producers]]\nsimulator = "namo"', "so it needs keys; add [security]"),
        (SMALL.format(more='key = "k"'), "producers 0 have the key k; expected that of [security]"),
        ('name = "' + 40 * "x" + '"\n' + SMALL.format(more=""), "expected at most 36 characters"),
        (SMALL.format(more='[inference]\nmodels = "m"\nflags = { keys = "x" }'), "flags has keys = 'x'; expected"),
        (SMALL.format(more='[kubernetes]\nimage = "a b"'), "$.kubernetes.image"),
        (SMALL.format(more='[kubernetes]\nnamespace = "A"'), "$.kubernetes.namespace"),
        (SMALL.format(more='[kubernetes]\ntag = "v1-"'), "$.kubernetes.tag"),
    ],
)
def test_what_pods_cannot_do_is_said(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        rendered(read_topology(tmp_path / "t.toml"))


def _instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile, with continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_has_a_target_for_each_image_and_copies_what_is_there(example: list[Json]) -> None:
    root = EXAMPLE.parents[1]
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}
    stages: list[str] = []
    copied: set[str] = set()
    for word, rest in _instructions(DOCKERFILE.read_text()):
        assert word in known
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            assert base in stages or base.startswith("python:${PYTHON}-"), base
            stages.append(name)
        if word == "COPY":
            *sources, _ = rest.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages[:-1]
            else:
                copied |= set(sources)
    assert all((root / source).exists() for source in copied)
    images = {container(each)["image"] for each in example if each["kind"] in WORKLOADS}
    used = {image.rpartition("/")[2].partition(":")[0] for image in images}
    assert used == {"sink", "inference", "producers", "trainer"}
    assert used <= set(stages)
    project = (root / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)"', re.search(r"wheel\]\npackages = \[(.*)\]", project)[1])  # type: ignore[index]
    assert copied >= {*packages, "pyproject.toml", "README.md"}
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied} <= set(ignored)
    for extras in re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE.read_text()):
        assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
