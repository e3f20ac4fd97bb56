"""Keys as Secrets: how to make them, and, if asked for, their manifests."""

from __future__ import annotations

import shlex
from pathlib import Path

from deploy.kubernetes.placed import Placed
from deploy.kubernetes.volumes import Json, allowed_clients, client_key, server_keys
from deploy.kubernetes.workloads import manifest
from protocol.errors import ConfigurationError
from protocol.keys import ALLOWED, CLIENTS, PUBLIC_SUFFIX, SINK_KEY, read_allowed, read_client_key, read_sink_key


def secrets(placed: Placed, cwd: Path) -> list[Json]:
    """With what the keys directory has. Raises ConfigurationError if it has not what is needed."""
    keys = cwd / placed.keys
    sink = read_sink_key(keys)
    path = keys / CLIENTS / f"{placed.client}.key"
    client = read_client_key(path)
    if client.sink != sink.public or read_allowed(keys)[0].get(client.public) != placed.client:
        raise ConfigurationError(f"{path} is not a key that {keys} allows as {placed.client!r}; have a new one made")
    public = f"{placed.client}{PUBLIC_SUFFIX}"
    return [
        _named(server_keys(placed), "Secret", placed, {SINK_KEY: (keys / SINK_KEY).read_text()}),
        _named(allowed_clients(placed), "ConfigMap", placed, {public: f"{client.public}\n"}),
        _named(client_key(placed), "Secret", placed, {f"{placed.client}.key": path.read_text()}),
    ]


def commands(placed: Placed, cwd: Path) -> list[str]:
    """What makes them in a cluster, from the keys directory."""
    keys = shlex.quote(str(cwd / placed.keys))
    create = f"kubectl --namespace {placed.namespace} create"
    public, key = f"{placed.client}{PUBLIC_SUFFIX}", f"{placed.client}.key"
    return [
        f"headrace keys new {keys} && headrace keys new {keys} --client {placed.client}     # unless they are there",
        f"{create} secret generic {server_keys(placed)} --from-file={keys}/{SINK_KEY}",
        f"{create} configmap {allowed_clients(placed)} --from-file={keys}/{ALLOWED}/{public}",
        f"{create} secret generic {client_key(placed)} --from-file={keys}/{CLIENTS}/{key}",
    ]


def _named(name: str, kind: str, placed: Placed, texts: dict[str, str]) -> Json:
    where = {"type": "Opaque", "stringData": texts} if kind == "Secret" else {"data": texts}
    return manifest("v1", kind, placed, name.removeprefix(f"{placed.name}-"), **where)
