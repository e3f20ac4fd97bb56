"""A keys directory for a test, made by the code behind `headrace keys`."""

from __future__ import annotations

from pathlib import Path

import zmq

from deploy import key_files
from protocol.keys import ClientKey, read_client_key, read_sink_key


class KeyRing:
    """KEYS with a sink's pair; clients are allowed by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink = key_files.add_sink(path)

    def client(self, name: str = "lab", allow: bool = True) -> Path:
        """A new client's file."""
        made = key_files.add_client(self.path, name, read_sink_key(self.path).public)
        if allow:
            self.allow(made)
        return key_files.client_path(self.path, name)

    def allow(self, key: ClientKey) -> None:
        """Let it in."""
        key_files.allow(self.path, key.name, key.public)

    def revoke(self, name: str = "lab") -> None:
        """Let it in no more."""
        key_files.revoke(self.path, name)


def curve(path: Path) -> dict[int, int | bytes]:
    """The options of a socket that shows this key."""
    key = read_client_key(path)
    return {
        zmq.CURVE_PUBLICKEY: key.public.encode(),
        zmq.CURVE_SECRETKEY: key.secret.encode(),
        zmq.CURVE_SERVERKEY: key.sink.encode(),
    }
