"""Closed by default: which endpoints a server may bind."""

from __future__ import annotations

from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError


def check_endpoint(endpoint: str, has_keys: bool, anyone: str) -> None:
    """Raise ConfigurationError if other machines can reach the endpoint and there are no keys, or if it is none.

    anyone: what anyone could do then, e.g. `write to the dataset`.
    """
    if not is_loopback(endpoint) and not has_keys:
        raise ConfigurationError(
            f"{endpoint} can be reached from other machines, and without keys anyone could {anyone}. "
            "Make keys with `headrace keys new KEYS`, then for each client's machine with "
            "`headrace keys new KEYS --client NAME`, and start this with --keys KEYS. "
            "Or stay on this machine with --bind tcp://127.0.0.1:PORT"
        )
