"""Which addresses only this machine can reach. Nothing is opened or resolved here."""

from __future__ import annotations

import ipaddress

from protocol.errors import ConfigurationError


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


def check_http(address: str, without_keys: bool = False) -> None:
    """Raise ConfigurationError unless HOST:PORT is on loopback, or the operator wants it: HTTP has no keys."""
    if not without_keys and not is_loopback(f"tcp://{address}"):
        raise ConfigurationError(
            f"--http {address} can be reached from other machines, and HTTP has no keys; serve it on 127.0.0.1:PORT "
            "and let others come through an ssh tunnel or a proxy that asks who they are. Where something else says "
            "who comes, such as a network policy: --http-without-keys"
        )


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT → (host, port). Raises ConfigurationError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"expected HOST:PORT, e.g. 127.0.0.1:9464, found {address!r}")
    return host.strip("[]"), int(port)
