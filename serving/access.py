"""A server with keys: encrypted connections, an allow-list, and a peer that belongs to the key it came with.

The handshake keeps strangers out. Two things it cannot do are done with each message: a key that was revoked while its
client is connected, and a permitted client that takes another's identity (ROUTER_HANDOVER gives it the connection).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container
from pathlib import Path

import zmq
from prometheus_client import Counter

from protocol.errors import ConfigurationError
from protocol.keys import read_allowed, read_sink_key
from serving.zap import DOMAIN, ZapHandler, user_of

log = logging.getLogger("headrace.daemon")

_SAY_AGAIN_S = 60.0


class Access:
    """The keys of one server. `start` comes before the socket is bound."""

    def __init__(self, keys: Path, rejected: Counter) -> None:
        """keys: a directory that `headrace keys new` made. rejected: counts by reason. Raises ConfigurationError."""
        self._keys, self._key = keys, read_sink_key(keys)
        if zmq.curve_public(self._key.secret.encode()).decode() != self._key.public:
            raise ConfigurationError(f"{keys}: the public key in sink.key is not that of its secret key; make new ones")
        read_allowed(keys)  # whether it can be read at all
        self._stranger = rejected.labels("unknown_key")
        self._revoked = rejected.labels("revoked_key")
        self._stolen = rejected.labels("stolen_identity")
        self._owners: dict[bytes, str] = {}  # peer → public key
        self._said_at = float("-inf")

    @property
    def public_key(self) -> str:
        """The server's own, which its clients have in their key files."""
        return self._key.public

    def start(self, context: zmq.Context[zmq.Socket[bytes]]) -> ZapHandler:
        """Answer for the sockets of this context; the caller closes what is returned, after its sockets."""
        self._zap = ZapHandler(context, self._keys, self._stranger.inc)
        return self._zap

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Set the socket's options; from then on it takes known keys only."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._key.secret.encode())
        socket.set_string(zmq.ZAP_DOMAIN, DOMAIN)
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def admits(self, peer: bytes, frame: zmq.Frame) -> bool:
        """Whether a message counts: its key is still allowed, and is the one that this peer began with."""
        user = user_of(frame)
        if user is None or user not in self._zap.allowed:
            self._revoked.inc()
            return False
        if self._owners.setdefault(peer, user) != user:
            self._stolen.inc()
            if time.monotonic() - self._said_at > _SAY_AGAIN_S:
                self._said_at = time.monotonic()
                thief, owner = (self._zap.allowed.get(key, "a revoked key") for key in (user, self._owners[peer]))
                log.warning("%s sends under an identity that belongs to %s; its messages are dropped", thief, owner)
            return False
        return True

    def revoked(self, peers: Container[bytes]) -> list[bytes]:
        """Those of the peers with an open session whose key is no longer allowed; forgets all other peers.

        To be called every second or so. Raises what ended the thread that lets clients in.
        """
        if self._zap.error is not None:
            raise self._zap.error
        self._owners = {peer: user for peer, user in self._owners.items() if peer in peers}
        return [peer for peer, user in self._owners.items() if user not in self._zap.allowed]
