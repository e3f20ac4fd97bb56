"""Which clients are gone: libzmq tells the descriptor of a connection that has ended, and messages tell theirs.

A descriptor's number is used again at once. libzmq tells of the end before it tells of the next connection, and of that
before its first message; so `gone` has to be asked after messages were taken and before they are handled.
"""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


class Connections:
    """Belongs to the thread of the socket."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        self._router = router
        self.events = router.get_monitor_socket(_EVENTS)
        self._peers: dict[int, bytes] = {}

    def close(self) -> None:
        """Before the socket is closed."""
        self._router.disable_monitor()
        self.events.close(linger=0)

    def took(self, fd: int, peer: bytes) -> None:
        """A message of this peer came on this connection."""
        self._peers[fd] = peer

    def gone(self) -> list[bytes]:
        """Peers whose connection has ended since the last call."""
        ended = []
        while self.events.poll(0):
            event = recv_monitor_message(self.events)
            peer = self._peers.pop(event["value"], None)  # of a new connection nothing is known yet
            if peer is not None:
                ended.append(peer)
        return ended
