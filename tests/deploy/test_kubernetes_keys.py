"""Keys of a collection on Kubernetes: written if they are asked for, and read from volumes as a kubelet makes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.key_files import add_client, add_sink, allow
from deploy.kubernetes.manifests import SECRETS
from protocol.errors import ConfigurationError
from protocol.keys import read_allowed, read_client_key, read_sink_key
from tests.deploy.test_kubernetes import Json, by_kind, check, objects, read, rendered

POD_USER = 10001


def test_keys_are_written_only_if_asked_for(tmp_path: Path) -> None:
    topology = read(tmp_path)
    with pytest.raises(ConfigurationError, match="make one with: headrace keys new"):
        rendered(topology, tmp_path, with_keys=True)
    public = add_client(tmp_path / "keys", "producers", add_sink(tmp_path / "keys").public).public
    with pytest.raises(ConfigurationError, match="is not a key that"):
        rendered(topology, tmp_path, with_keys=True)
    allow(tmp_path / "keys", "producers", public)
    assert SECRETS not in rendered(topology, tmp_path).files
    made = rendered(topology, tmp_path, with_keys=True)
    assert made.secret == {SECRETS}
    assert "secrets.yaml" in yaml.safe_load(made.files["base/kustomization.yaml"])["resources"]
    found = {each["metadata"]["name"]: each for each in yaml.safe_load_all(made.files[SECRETS])}
    for each in found.values():
        check(each)
    assert sorted(found) == ["t-allowed-clients", "t-client-key", "t-server-keys"]
    assert found["t-server-keys"]["stringData"]["sink.key"] == (tmp_path / "keys" / "sink.key").read_text()
    assert found["t-allowed-clients"]["data"] == {"producers.pub": f"{public}\n"}
    secret = (tmp_path / "keys" / "clients" / "producers.key").read_text()
    assert found["t-client-key"]["stringData"]["producers.key"] == secret
    others = "".join(text for path, text in made.files.items() if path != SECRETS)
    assert secret.split('"secret": "')[1][:40] not in others


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that any user finds."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def _mounted(volume: Json, made: dict[str, Json], where: Path) -> None:
    """The files of a volume as a kubelet lays them out: root's, behind links, and readable by the pod's group."""
    projected = volume.get("projected") or {"sources": [volume], "defaultMode": volume["secret"]["defaultMode"]}
    real = where / "..2026_11_21"
    real.mkdir(parents=True, mode=0o755)
    (where / "..data").symlink_to(real.name)
    for source in projected["sources"]:
        found = source.get("secret") or source["configMap"]
        texts = made[found.get("name") or found["secretName"]]
        texts = texts.get("stringData") or texts["data"]
        for item in found.get("items") or [{"key": key, "path": key} for key in texts]:
            path = real / item["path"]
            path.parent.mkdir(exist_ok=True, mode=0o755)
            path.write_text(texts[item["key"]])
            os.chown(path, 0, POD_USER)
            path.chmod(projected["defaultMode"])
            top = item["path"].partition("/")[0]
            if not (where / top).is_symlink():
                (where / top).symlink_to(f"..data/{top}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own files as a kubelet does")
def test_programs_read_the_keys_that_a_kubelet_mounts(tmp_path: Path, reachable: Path) -> None:
    public = add_client(tmp_path / "keys", "producers", add_sink(tmp_path / "keys").public).public
    allow(tmp_path / "keys", "producers", public)
    files = rendered(read(tmp_path), tmp_path, with_keys=True)
    made = {each["metadata"]["name"]: each for each in yaml.safe_load_all(files.files[SECRETS])}
    for workload in ("StatefulSet", "Job"):
        for volume in next(iter(by_kind(objects(files), workload).values()))["spec"]["template"]["spec"]["volumes"]:
            if volume["name"] in ("keys", "client"):
                _mounted(volume, made, reachable / volume["name"])
    os.setegid(POD_USER)
    os.seteuid(POD_USER)
    try:
        sink, (allowed, faults) = read_sink_key(reachable / "keys"), read_allowed(reachable / "keys")
        client = read_client_key(reachable / "client" / "producers.key")
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert (client.sink, allowed, faults) == (sink.public, {client.public: "producers"}, [])
