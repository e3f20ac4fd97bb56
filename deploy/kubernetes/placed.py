"""The same collection inside of pods: paths are those of mounts, addresses those of Services."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from deploy.kubernetes.settings import KubernetesSettings
from deploy.roles import Role, roles_of
from deploy.topology import Security, Topology
from protocol.errors import ConfigurationError

DATA, MODELS, KEYS, CLIENT = Path("/data"), Path("/models"), Path("/etc/headrace/keys"), Path("/etc/headrace/client")
SINK_PORT, INFERENCE_PORT, HTTP_PORT = 5555, 5556, 9464
PORTS = {"sink": SINK_PORT, "inference": INFERENCE_PORT}
# Room for the longest suffix within the 52 characters that a StatefulSet's pods leave.
_MAX_NAME = 36
_NO_LABEL = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Placed:
    """A topology whose paths are those in pods. name: prefix of all objects. keys: the keys directory here, on disk."""

    topology: Topology
    name: str
    keys: str
    client: str

    @property
    def settings(self) -> KubernetesSettings:
        """Its own table."""
        return self.topology.kubernetes

    @property
    def namespace(self) -> str:
        """Where all objects are."""
        return self.settings.namespace or self.name

    @property
    def tag(self) -> str:
        """Of images."""
        return self.settings.tag or _release()

    @property
    def roles(self) -> list[Role]:
        """With commands for pods. Trainers keep their checkpoints beside the models."""
        return roles_of(self.topology, MODELS / "training")

    @property
    def addresses(self) -> Mapping[str, str]:
        """Endpoints, by the names of what is there."""
        return {name: f"tcp://{self.object_name(name)}:{port}" for name, port in PORTS.items()}

    def object_name(self, suffix: str) -> str:
        """Of an object of this collection."""
        return f"{self.name}-{suffix}"

    def labels(self, component: str | None = None) -> dict[str, str]:
        """Those that select, or of all pods of the collection."""
        found = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/instance": self.name}
        return found | ({"app.kubernetes.io/component": component} if component is not None else {})


def place(topology: Topology) -> Placed:
    """Raises ConfigurationError for what pods cannot do."""
    if topology.security is None:
        raise ConfigurationError(
            "producers in other pods reach the sink by the network, so it needs keys; add [security] with "
            'keys = "DIRECTORY", made by `headrace keys`'
        )
    for number, producers in enumerate(topology.producers):
        if producers.key is not None:
            raise ConfigurationError(
                f"producers {number} have the key {producers.key}; expected that of [security], a Secret, for all"
            )
    replace = msgspec.structs.replace
    inference, client = topology.inference, CLIENT / f"{topology.security.client}.key"
    if inference is not None and inference.keys is not None:
        raise ConfigurationError(f"[inference] has the keys {inference.keys}; expected those of [security] for both")
    flags = inference.flags if inference is not None else {}
    if "keys" in flags:
        raise ConfigurationError(
            f"[inference] flags has keys = {flags['keys']!r}; expected those of [security] for both"
        )
    # As with the sink's, a port of one machine means nothing in a pod.
    flags = {**flags, "bind": f"tcp://0.0.0.0:{INFERENCE_PORT}", "http": f"0.0.0.0:{HTTP_PORT}"}
    placed = replace(
        topology,
        sink=replace(
            topology.sink,
            data=str(DATA / Path(topology.sink.data).name),
            bind=f"tcp://0.0.0.0:{SINK_PORT}",
            http=f"0.0.0.0:{HTTP_PORT}",
            keys=None,
        ),
        inference=inference and replace(inference, models=str(MODELS / Path(inference.models).name), flags=flags),
        security=Security(str(KEYS), topology.security.client),
        producers=tuple(replace(each, key=str(client)) for each in topology.producers),
    )
    return Placed(placed, _label(topology.name or "collection"), topology.security.keys, topology.security.client)


def _label(name: str) -> str:
    """A name as a label of RFC 1123. Raises ConfigurationError."""
    label = _NO_LABEL.sub("-", name.lower()).strip("-")
    if not label or len(label) > _MAX_NAME or not label[0].isalpha():
        raise ConfigurationError(
            f'name = "{name}" cannot be that of Kubernetes objects: expected at most {_MAX_NAME} characters, the first '
            "one a letter"
        )
    return label


def _release() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:  # run from a source tree
        return "dev"
