"""Closed by default: which endpoints a sink may bind."""

from __future__ import annotations

import ipaddress

from protocol.errors import ConfigurationError


def check_loopback(endpoint: str) -> None:
    """Raise ConfigurationError unless the endpoint can only be reached from this machine."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        return
    host = rest.rpartition(":")[0].strip("[]")
    if scheme != "tcp" or not host:
        raise ConfigurationError(f"expected tcp://HOST:PORT or ipc://PATH, found {endpoint!r}")
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"{endpoint} can be reached from other machines, and there are no keys to tell friend from stranger yet; "
            "bind to tcp://127.0.0.1:PORT and let producers of other machines come through an ssh tunnel"
        )


