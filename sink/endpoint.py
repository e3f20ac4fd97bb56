"""Closed by default: which endpoints a sink may bind."""

from __future__ import annotations

from protocol.endpoint import is_loopback
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
