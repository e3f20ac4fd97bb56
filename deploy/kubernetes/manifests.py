"""All files of a collection on Kubernetes: a base for kustomize, overlays, a component."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes import network, overlays
from deploy.kubernetes.placed import Placed, place
from deploy.kubernetes.secrets import commands, secrets
from deploy.kubernetes.volumes import Json
from deploy.kubernetes.workloads import manifest, models_claim, workload
from deploy.rendered import Rendered
from deploy.topology import Topology

SECRETS = "base/secrets.yaml"
_HEAD = "# Made by `headrace render kubernetes`; not run in a cluster yet.\n"


def render_manifests(topology: Topology, cwd: Path, with_keys: bool) -> Rendered:
    """cwd: where a relative keys directory is. Raises ConfigurationError."""
    placed = place(topology)
    base: dict[str, Json | list[Json]] = {f"base/{name}.yaml": found for name, found in _base(placed).items()}
    if with_keys:
        base[SECRETS] = list(secrets(placed, cwd))
    listed = [path.removeprefix("base/") for path in base]
    servers = [role.name for role in placed.roles if role.announces]
    files = base | {"base/kustomization.yaml": overlays.kustomization(listed, namespace=placed.namespace)}
    files |= overlays.monitoring(placed, servers) | overlays.small(placed) | overlays.gpu(placed)
    texts = {path: _text(found) for path, found in files.items()}
    apply = "kubectl apply --kustomize base                # or overlays/small, overlays/gpu"
    made = ["kubectl apply --filename base/namespace.yaml", *commands(placed, cwd)]
    return Rendered(texts, [*([] if with_keys else made), apply], frozenset({SECRETS} if with_keys else ()))


def _base(placed: Placed) -> dict[str, Json]:
    """By the names of files, in the order in which they are applied."""
    servers = [role.name for role in placed.roles if role.announces]
    found: dict[str, Json] = {"namespace": _namespace(placed)}
    found["service-account"] = manifest("v1", "ServiceAccount", placed, None, automountServiceAccountToken=False)
    found["deny-all"] = network.deny_all(placed)
    for server in servers:
        found[f"{server}-clients"] = network.allow_server(server, placed)
        found[f"{server}-service"] = network.service(server, placed)
    found["producers-egress"] = network.allow_producers(servers, placed)
    found["sink-disruption-budget"] = network.disruption_budget(placed)
    if placed.topology.inference is not None:
        found["models-claim"] = models_claim(placed)
    return found | {role.name: workload(role, placed) for role in placed.roles}


def _namespace(placed: Placed) -> Json:
    """Whatever runs in it has to be as unprivileged as the pods of the collection are."""
    labels = placed.labels() | {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": placed.namespace, "labels": labels}}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """A patch inside of a kustomization is a text of its own; lists are written out, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never."""
        del data
        return True


def _text(found: Json | list[Json]) -> str:
    documents = found if isinstance(found, list) else [_with_texts(found)]
    several = len(documents) > 1
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=several)
    return _HEAD + text


def _with_texts(found: Json) -> Json:
    """kustomize takes a patch as text."""
    if found["kind"] != "Kustomization" or "patches" not in found:
        return found
    texts = [{**each, "patch": yaml.dump(each["patch"], Dumper=_Dumper, sort_keys=False)} for each in found["patches"]]
    return {**found, "patches": texts}


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _literal)
