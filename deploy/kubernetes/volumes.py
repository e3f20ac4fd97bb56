"""What pods mount: scratch, dataset, models, and keys that Secrets and a ConfigMap hold."""

from __future__ import annotations

from typing import Any

from deploy.kubernetes.placed import CLIENT, DATA, KEYS, MODELS, Placed
from deploy.roles import Role
from protocol.keys import ALLOWED, PUBLIC_SUFFIX, SINK_KEY

Json = dict[str, Any]

# Kubernetes writes modes as decimal numbers; root's file, our group may read it.
_SECRET_MODE = 0o440


def mounts(role: Role) -> list[Json]:
    """Where a role finds them."""
    found: list[Json] = []
    if role.kind in ("sink", "trainer"):
        found.append({"name": "data", "mountPath": str(DATA)} | ({"readOnly": True} if role.kind == "trainer" else {}))
    if role.kind in ("inference", "trainer"):
        found.append({"name": "models", "mountPath": str(MODELS)})
    if role.announces is not None:
        found.append({"name": "keys", "mountPath": str(KEYS), "readOnly": True})
    if role.key is not None:
        found.append({"name": "client", "mountPath": str(CLIENT), "readOnly": True})
    return found


def volumes(role: Role, placed: Placed) -> list[Json]:
    """All but the sink's data, which a StatefulSet claims by itself."""
    found: list[Json] = [{"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}}]
    if role.kind == "trainer":
        claim = {"claimName": f"data-{placed.object_name('sink')}-0", "readOnly": True}
        found.append({"name": "data", "persistentVolumeClaim": claim})
    if role.kind in ("inference", "trainer"):
        found.append({"name": "models", "persistentVolumeClaim": {"claimName": placed.object_name("models")}})
    if role.announces is not None:
        public = f"{placed.client}{PUBLIC_SUFFIX}"
        secret = {"name": server_keys(placed), "items": [{"key": SINK_KEY, "path": SINK_KEY}]}
        # Optional, so that a client whose public key is taken out is shut out, and the volume goes on being renewed.
        items = [{"key": public, "path": f"{ALLOWED}/{public}"}]
        allowed = {"name": allowed_clients(placed), "items": items, "optional": True}
        sources = [{"secret": secret}, {"configMap": allowed}]
        found.append({"name": "keys", "projected": {"defaultMode": _SECRET_MODE, "sources": sources}})
    if role.key is not None:
        found.append({"name": "client", "secret": {"secretName": client_key(placed), "defaultMode": _SECRET_MODE}})
    return found


def server_keys(placed: Placed) -> str:
    """The Secret with the servers' pair."""
    return placed.object_name("server-keys")


def allowed_clients(placed: Placed) -> str:
    """The ConfigMap with the public keys of those who may come in."""
    return placed.object_name("allowed-clients")


def client_key(placed: Placed) -> str:
    """The Secret with the producers' key."""
    return placed.object_name("client-key")
