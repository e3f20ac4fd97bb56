"""What runs: a StatefulSet for the sink, Deployments for inference and trainers, Indexed Jobs for producers."""

from __future__ import annotations

from deploy.kubernetes.placed import Placed
from deploy.kubernetes.pods import component, pod
from deploy.kubernetes.volumes import Json
from deploy.roles import Role

_RETRIES_OF_AN_INDEX = 10


def manifest(api: str, kind: str, placed: Placed, suffix: str | None, **more: Json | bool) -> Json:
    """An object of the collection; suffix None: under its own name."""
    name = placed.name if suffix is None else placed.object_name(suffix)
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": placed.labels()}, **more}


def workload(role: Role, placed: Placed) -> Json:
    """The object that runs a role."""
    match role.kind:
        case "sink":
            return _sink(role, placed)
        case "producers":
            return _producers(role, placed)
        case "inference" | "trainer":
            return _deployment(role, placed)


def _sink(role: Role, placed: Placed) -> Json:
    shared = any(each.kind == "trainer" for each in placed.roles)
    claim = _claim(placed.settings.storage_gib, placed.settings.storage_class, shared)
    spec: Json = {
        "serviceName": placed.object_name(role.name),
        "replicas": 1,
        "selector": {"matchLabels": placed.labels(component(role))},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "template": pod(role, placed),
        "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": placed.labels()}, "spec": claim}],
    }
    return manifest("apps/v1", "StatefulSet", placed, role.name, spec=spec)


def _deployment(role: Role, placed: Placed) -> Json:
    labels = placed.labels(component(role))
    template = pod(role, placed)
    if role.kind == "trainer":
        labels["headrace/trainer"] = template["metadata"]["labels"]["headrace/trainer"] = role.name
    # One at a time: a second trainer would publish against the first, a second server would take another GPU.
    spec: Json = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return manifest("apps/v1", "Deployment", placed, role.name, spec=spec)


def _producers(role: Role, placed: Placed) -> Json:
    spec: Json = {
        "completionMode": "Indexed",
        "completions": role.count,
        "parallelism": role.count,
        "backoffLimitPerIndex": _RETRIES_OF_AN_INDEX,
        # A pod that was evicted has not failed: its index is run again, however often.
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": pod(role, placed, restart="Never"),
    }
    if role.resources.seconds is not None:
        spec["activeDeadlineSeconds"] = role.resources.seconds
    return manifest("batch/v1", "Job", placed, role.name, spec=spec)


def models_claim(placed: Placed) -> Json:
    """Where trainers publish and the inference server reads."""
    shared = any(each.kind == "trainer" for each in placed.roles)
    spec = _claim(placed.settings.models_gib, placed.settings.storage_class, shared)
    return manifest("v1", "PersistentVolumeClaim", placed, "models", spec=spec)


def _claim(size_gib: int, storage_class: str | None, shared: bool) -> Json:
    """shared: pods on several nodes use it at once."""
    spec: Json = {"accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"]}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return spec | {"resources": {"requests": {"storage": f"{size_gib}Gi"}}}
