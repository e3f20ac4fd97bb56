"""Variants of the base for kustomize: little of everything, GPUs, and a component for the Prometheus operator."""

from __future__ import annotations

from typing import Any

from deploy.kubernetes.network import pod_monitor
from deploy.kubernetes.placed import Placed
from deploy.kubernetes.pods import GPU_DRAWS, component
from deploy.kubernetes.volumes import Json
from deploy.roles import Role

_SMALL_STORAGE_GIB = 10
_SMALL_CPU = "250m"
_KUSTOMIZE = "kustomize.config.k8s.io/v1"


def kustomization(resources: list[str], **more: Any) -> Json:
    """The file that kustomize reads first."""
    return {"apiVersion": f"{_KUSTOMIZE}beta1", "kind": "Kustomization", "resources": resources, **more}


def monitoring(placed: Placed, servers: list[str]) -> dict[str, Json]:
    """A component that every overlay may include."""
    resources = ["pod-monitor.yaml"]
    listed = {"apiVersion": f"{_KUSTOMIZE}alpha1", "kind": "Component", "resources": resources}
    return {
        "components/monitoring/kustomization.yaml": listed,
        "components/monitoring/pod-monitor.yaml": pod_monitor(placed, servers),
    }


def small(placed: Placed) -> dict[str, Json]:
    """One producer of each kind, little processor time and disk: to try a cluster, or on one's own machine."""
    patches: list[Json] = []
    for role in placed.roles:
        cpu = {"name": component(role), "resources": {"requests": {"cpu": _SMALL_CPU}}}
        spec: Json = {"template": {"spec": {"containers": [cpu]}}}
        if role.kind == "producers":
            spec |= {"completions": 1, "parallelism": 1}
        patches.append({"patch": _patch(role, placed, spec)})
    storage = {"op": "replace", "path": "/spec/volumeClaimTemplates/0/spec/resources/requests/storage"}
    target = {"kind": "StatefulSet", "name": placed.object_name("sink")}
    patches.append({"target": target, "patch": [storage | {"value": f"{_SMALL_STORAGE_GIB}Gi"}]})
    return {
        "overlays/small/kustomization.yaml": kustomization(["../../base"], namespace=placed.namespace, patches=patches)
    }


def gpu(placed: Placed) -> dict[str, Json]:
    """A GPU for the inference server and for each pod that draws; metrics are watched."""
    patches = [
        {"patch": _patch(role, placed, {"template": {"spec": _with_gpu(role, placed)}})}
        for role in placed.roles
        if role.kind == "inference" or (role.kind == "producers" and not role.own_program)
    ]
    more = {"components": ["../../components/monitoring"], "patches": patches}
    # That of the base is not that of a component's objects.
    listed = kustomization(["../../base"], namespace=placed.namespace, **more)
    return {"overlays/gpu/kustomization.yaml": listed}


def _with_gpu(role: Role, placed: Placed) -> Json:
    resource = placed.settings.gpu_resource
    container: Json = {"name": component(role), "resources": {"limits": {resource: str(role.resources.gpus or 1)}}}
    if role.kind == "producers":
        container["env"] = [{"name": name, "value": value} for name, value in GPU_DRAWS.items()]
    return {"containers": [container], "tolerations": [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]}


def _patch(role: Role, placed: Placed, spec: Json) -> Json:
    """A strategic merge patch of a role's workload."""
    kinds = {"sink": ("apps/v1", "StatefulSet"), "producers": ("batch/v1", "Job")}
    api, kind = kinds.get(role.kind, ("apps/v1", "Deployment"))
    return {"apiVersion": api, "kind": kind, "metadata": {"name": placed.object_name(role.name)}, "spec": spec}
