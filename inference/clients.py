"""Which clients are there, and which are gone: libzmq tells a connection's descriptor, and messages tell theirs.

`gone` has to be asked after messages were taken and before they are handled: see `ConnectionEvents.changed`.
"""

from __future__ import annotations

from serving.connections import ConnectionGuard, ConnectionLimits
from serving.process_memory import OwnMemory

# Bytes that a client may have under way once it has said something that makes sense: some thousand queries.
WINDOW_BYTES = 8 << 20
# A planner connects before it has a query, and may think for long.
_SILENCE_S = 300.0
# On the connection of a client that has not said anything yet, and on those of all such clients.
_STRANGER_BYTES, _STRANGERS_BYTES = 1 << 20, 16 << 20


def limits_now(connections: int, client_bytes: int) -> ConnectionLimits:
    """To be asked when the models are warm: what they take is not the clients' doing.

    client_bytes: own memory that clients may add to what the process has now.
    """
    memory = OwnMemory()
    try:
        return ConnectionLimits(
            connections=connections,
            memory_bytes=memory.read() + client_bytes,
            silence_s=_SILENCE_S,
            stranger_bytes=_STRANGER_BYTES,
            strangers_bytes=_STRANGERS_BYTES,
            margin_bytes=client_bytes // 4,
        )
    finally:
        memory.close()


class Clients:
    """Belongs to the thread of the socket."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._peers: dict[int, bytes] = {}
        self.known: set[bytes] = set()  # they have said something that makes sense

    def took(self, fd: int, peer: bytes) -> None:
        """A message of this peer came on this connection."""
        self._peers[fd] = peer

    def welcome(self, peer: bytes) -> None:
        """What it said makes sense."""
        if peer not in self.known:
            self.known.add(peer)
            self._guard.answered(peer, 0, WINDOW_BYTES)

    def gone(self) -> list[bytes]:
        """Peers whose connection has ended since the last call."""
        ended = []
        for fd in self._guard.changed():
            peer = self._peers.pop(fd, None)  # of a new connection nothing is known yet
            if peer is not None:
                self.known.discard(peer)
                ended.append(peer)
        return ended
