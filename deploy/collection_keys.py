"""The keys that a topology asks for: those that are there stay, those that are missing are made."""

from __future__ import annotations

from pathlib import Path

from deploy import key_files
from deploy.topology import Security
from protocol.errors import ConfigurationError
from protocol.keys import SINK_KEY, read_allowed, read_client_key, read_sink_key


def ensure_keys(security: Security) -> list[Path]:
    """Make the sink's keys and those of its producers; returns the files that were made.

    Raises ConfigurationError if the producers' key file is for another sink, or is not allowed and cannot be.
    """
    keys, client = Path(security.keys), Path(security.client_key)
    made: list[Path] = []
    if not (keys / SINK_KEY).exists():
        key_files.add_sink(keys)
        made.append(keys / SINK_KEY)
    sink = read_sink_key(keys).public
    if not client.exists():
        key_files.allow(keys, security.client, key_files.add_client(keys, security.client, sink).public)
        return [*made, client]
    key = read_client_key(client)
    if key.sink != sink:
        raise ConfigurationError(f"{client} was made for another sink than that of {keys}; remove it to have one made")
    if key.public not in read_allowed(keys)[0]:
        raise ConfigurationError(
            f"{client} is not allowed by {keys}, perhaps because it was revoked; remove it to have a new one made"
        )
    return made
