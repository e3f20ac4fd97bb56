"""Pods: one container that runs a role, unprivileged, with a root file system that it cannot write."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.kubernetes.placed import HTTP_PORT, PORTS, Placed
from deploy.kubernetes.volumes import Json, mounts, volumes
from deploy.roles import Role
from deploy.topology import Topology
from deploy.unattended import ONE_THREAD, STOP_S, memory_mib, resuming, unless_there

# Of the images of deploy/docker.
_USER = 10001
_COMPONENTS = {"sink": "sink", "inference": "inference", "trainer": "trainer", "producers": "producer"}
_TARGETS = {"sink": "sink", "inference": "inference", "trainer": "trainer", "producers": "producers"}
HEADRACE = ("python", "-P", "-m", "deploy.main")


def component(role: Role) -> str:
    """The value of app.kubernetes.io/component."""
    return _COMPONENTS[role.kind]


def pod(role: Role, placed: Placed, restart: str = "Always") -> Json:
    """A pod template: metadata and spec."""
    container = _container(role, placed)
    spec: Json = {
        "serviceAccountName": placed.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": STOP_S[role.kind],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if role.prepare is not None:
        words = unless_there(role.prepare.unless, [*HEADRACE, *role.prepare.words])
        kept = ("image", "securityContext", "resources", "env", "volumeMounts")
        same = {key: container[key] for key in kept}
        spec["initContainers"] = [{"name": "prepare", "command": _words(words), **same}]
    spec |= {"containers": [container], "volumes": volumes(role, placed)}
    if role.resources.gpus:
        spec["tolerations"] = [{"key": placed.settings.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    labels = placed.labels(component(role)) | {"app.kubernetes.io/version": placed.tag}
    return {"metadata": {"labels": labels}, "spec": spec}


def _container(role: Role, placed: Placed) -> Json:
    container: Json = {
        "name": component(role),
        "image": f"{placed.settings.image}/{_TARGETS[role.kind]}:{placed.tag}",
        "command": _words(_command(role, placed)),
        "env": _environment(role, placed),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": resources(role, placed.topology, placed.settings.gpu_resource),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts(role)],
    }
    if role.announces is not None:
        container["ports"] = [
            {"name": role.name, "containerPort": PORTS[role.name]},
            {"name": "http", "containerPort": HTTP_PORT},
        ]
        container |= _probes(role)
    return container


def _command(role: Role, placed: Placed) -> list[str]:
    words = role.words(placed.addresses)
    if role.own_program:
        return words
    words = [*HEADRACE, *words]
    if role.announces is not None:
        # Who may come is said by network policies.
        words.append("--http-without-keys")
    if role.kind == "producers":
        words.append("--plain")
    return words if role.resumes is None else resuming(role.resumes, words)


def _words(words: Sequence[str]) -> list[str]:
    """Kubernetes replaces $(NAME); $$ stands for one $."""
    return [word.replace("$", "$$") for word in words]


def _environment(role: Role, placed: Placed) -> list[Json]:
    values = {"HOME": "/tmp", "XDG_CACHE_HOME": "/tmp/cache"}
    if role.kind in ("producers", "trainer"):
        values |= ONE_THREAD
    if role.kind == "producers" and role.resources.gpus:
        values |= GPU_DRAWS
    values |= role.environment(placed.addresses)
    rows: list[Json] = [{"name": name, "value": value.replace("$", "$$")} for name, value in values.items()]
    if role.kind == "producers":
        # Kubernetes would add it, but behind those that refer to it.
        path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        rows.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}})
        rows.append({"name": "HEADRACE_NAME", "value": f"{role.name}.$(JOB_COMPLETION_INDEX)"})
    return rows


# Without `graphics`, the NVIDIA runtime mounts no EGL.
GPU_DRAWS = {
    "MUJOCO_GL": "egl",
    "PYOPENGL_PLATFORM": "egl",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,graphics,utility",
}


def resources(role: Role, topology: Topology, gpu_resource: str) -> Json:
    """Requests and limits; no limit of processor time, which would only make a program wait in the middle."""
    found = role.resources
    requests: Json = {"cpu": str(found.cpus or 1)}
    limits: Json = {}
    memory = memory_mib(role, topology)
    if memory is not None:
        requests["memory"] = limits["memory"] = f"{memory}Mi"
    if found.gpus:
        limits[gpu_resource] = str(found.gpus)
    return {"requests": requests} | ({"limits": limits} if limits else {})


def _probes(role: Role) -> Json:
    """The sink lives as long as it answers at all: a full disk makes /healthz say no, and a restart makes no room."""

    def probe(path: str, period_s: int, failures: int) -> Json:
        asked = {"httpGet": {"path": path, "port": "http"}}
        return {**asked, "periodSeconds": period_s, "timeoutSeconds": 5, "failureThreshold": failures}

    return {
        "startupProbe": probe("/healthz", 5, 180),
        "readinessProbe": probe("/healthz", 10, 3),
        "livenessProbe": probe("/metrics" if role.kind == "sink" else "/healthz", 20, 6),
    }
