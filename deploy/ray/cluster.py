"""Ray's own interface: each call that is used, and one sentence for what can go wrong."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.util

from deploy.ray.actor import ProgramActor
from deploy.ray.plan import Actor
from deploy.ray.report import Report
from deploy.ray.room import NodeRoom
from protocol.errors import ConfigurationError, HeadraceError

_CONNECT_LIMIT_S = 5.0
# An actor that does not say how it is within this time is not there at the moment [s].
_ANSWER_LIMIT_S = 3.0


class RayError(HeadraceError):
    """Ray refused, or cannot be asked."""


class Cluster:
    """The actors of one namespace, for a driver that is connected, or an actor of the same namespace."""

    def __init__(self) -> None:
        self._asked: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        return str(ray.get_runtime_context().gcs_address)

    def nodes(self) -> list[NodeRoom]:
        """Those that are alive."""
        found = [node for node in ray.nodes() if node["Alive"]]
        return [NodeRoom(node["NodeManagerAddress"], node["Resources"], node.get("Labels", {})) for node in found]

    def names(self) -> set[str]:
        """Of all actors that run, will run, or will be begun again."""
        return set(ray.util.list_named_actors())

    def create(self, actor: Actor) -> None:
        """Unless it is there. Ray begins it when there is room."""
        asked = {"name": actor.name, "lifetime": "detached", "get_if_exists": True, "max_concurrency": 2}
        ray.remote(ProgramActor).options(**asked, **actor.options()).remote(actor.orders)

    def reports(self, names: set[str]) -> dict[str, Report]:
        """What those say that run and answer."""
        asked = {}
        for name in names:
            handle = _handle(name)
            if handle is not None:
                asked[handle.look.remote()] = name
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_LIMIT_S) if asked else ([], [])
        found = {}
        for answer in ready:
            report = _got(answer)
            if report is not None:
                found[asked[answer]] = report
        return found

    def ask_to_stop(self, name: str) -> None:
        """May be called again and again until it is gone: an actor that is being begun again is asked once more."""
        before = self._asked.get(name)
        if before is not None and not (ray.wait([before], timeout=0)[0] and _failed(before)):
            return
        handle = _handle(name)
        if handle is not None:
            self._asked[name] = handle.stop.remote()

    def end(self, name: str) -> None:
        """At once, for good; its program is killed a moment later."""
        handle = _handle(name)
        if handle is not None:
            ray.kill(handle, no_restart=True)


@contextmanager
def connected(address: str, namespace: str) -> Iterator[Cluster]:
    """address: HOST:PORT; empty: the cluster of this machine. Raises RayError, ConfigurationError."""
    _check_reachable(address)
    try:
        ray.init(
            address=address or "auto",
            namespace=namespace,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _refused(address, error) from error
    try:
        yield Cluster()
    except ray.exceptions.RayError as error:
        raise RayError(f"Ray: {str(error).strip().splitlines()[0]}") from error
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for a minute."""
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ConfigurationError(f"the address of the Ray cluster is {address!r}; expected HOST:PORT of its head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_LIMIT_S).close()
    except (OSError, OverflowError) as error:
        raise RayError(
            f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}; expected HOST:PORT of "
            "its head, in [ray] address or RAY_ADDRESS"
        ) from error


def _refused(address: str, error: Exception) -> HeadraceError:
    text = " ".join(str(error).split())
    versions = re.search(r"Ray: (\S+).*?Python: (\S+).*?Ray: (\S+).*?Python: (\S+)", text)
    if "mismatch" in text and versions:
        there, there_python, here, here_python = (word.rstrip(".,;") for word in versions.groups())
        return ConfigurationError(
            f"the cluster runs Ray {there} with Python {there_python}, this is Ray {here} with Python {here_python}; "
            f"expected the same: pip install 'ray=={there}' here, or start the cluster from this environment "
            f"({sys.prefix})"
        )
    if not address and isinstance(error, ConnectionError):
        return RayError(
            "this machine belongs to no Ray cluster; submit from one that does (ray start --address=HEAD:6379), or "
            "start one here: ray start --head"
        )
    return RayError(
        f"cannot join the Ray cluster{f' at {address}' if address else ''}: {text.rstrip('.')}. Expected to be on one "
        "of its machines (ray start --address=HEAD:6379), with its RAY_AUTH_TOKEN if it has one"
    )


def _handle(name: str) -> Any:
    try:
        return ray.get_actor(name)
    except ValueError:  # it has ended
        return None


def _got(answer: Any) -> Report | None:
    try:
        report: Report = ray.get(answer)
    except ray.exceptions.RayError:  # it has ended, or is being begun again
        return None
    return report


def _failed(answer: Any) -> bool:
    try:
        ray.get(answer)
    except ray.exceptions.RayError:
        return True
    return False
