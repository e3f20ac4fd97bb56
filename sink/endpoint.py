"""Closed by default: which endpoints a sink may bind."""

from __future__ import annotations

import ipaddress

from protocol.errors import ConfigurationError


def check_endpoint(endpoint: str, has_keys: bool) -> None:
    """Raise ConfigurationError if other machines can reach the endpoint and there are no keys, or if it is none."""
    if not is_loopback(endpoint) and not has_keys:
        raise ConfigurationError(
            f"{endpoint} can be reached from other machines, and without keys anyone could write to the dataset. "
            "Make keys with `headrace keys new KEYS`, then for each producer's machine with "
            "`headrace keys new KEYS --client NAME`, and start the sink with --keys KEYS. "
            "Or stay on this machine with --bind tcp://127.0.0.1:PORT"
        )


def check_http(address: str) -> None:
    """Raise ConfigurationError unless HOST:PORT is on loopback: HTTP has no keys."""
    if not is_loopback(f"tcp://{address}"):
        raise ConfigurationError(
            f"--http {address} can be reached from other machines, and HTTP has no keys; serve it on 127.0.0.1:PORT "
            "and let others come through an ssh tunnel or a proxy that asks who they are"
        )


def is_loopback(endpoint: str) -> bool:
    """The endpoint can only be reached from this machine. Raises ConfigurationError if it is none."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if scheme != "tcp" or not host:
        raise ConfigurationError(f"expected tcp://HOST:PORT or ipc://PATH, found {endpoint!r}")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
