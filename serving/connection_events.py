"""What libzmq tells of a ROUTER's connections: which have come, and which have ended.

A socket has one monitor, and two threads ask it: the guard's, which must hear of a connection also while the other is
busy, and the socket's, which must know who is gone before it handles what it has taken.
"""

from __future__ import annotations

import select
import threading
from collections import deque

import zmq
from zmq.utils.monitor import recv_monitor_message

# More than can come between two looks; what is told of a connection that nobody asks about is forgotten.
_MOST = 65_536


class ConnectionEvents:
    """Descriptors, in the order in which libzmq told of them. Any thread may call; `close` comes last."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        address = f"inproc://connections-{id(self)}"
        router.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._router = router
        self._events = router.context.socket(zmq.PAIR)
        self._events.set(zmq.LINGER, 0)
        self._events.connect(address)
        self._came: deque[int] = deque(maxlen=_MOST)
        self._changed: deque[int] = deque(maxlen=_MOST)
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(int(self._events.get(zmq.FD)), select.POLLIN)

    def stop(self) -> None:
        """Hear of nothing new; for the thread of the socket, before that is closed."""
        self._router.monitor(None, 0)  # None is how libzmq spells it

    def close(self) -> None:
        """When nobody asks any more."""
        self._events.close()

    def wait(self, timeout_ms: int) -> None:
        """Until there may be news."""
        self._poll.poll(timeout_ms)

    def came(self) -> list[int]:
        """Connections that were accepted since the last call; for one thread."""
        return self._take(self._came)

    def changed(self) -> list[int]:
        """Connections that ended since the last call, or began; for one thread. Also what was told this moment.

        A descriptor's number is used again at once. libzmq tells of the end before it tells of the next connection, and
        of that before its first message.
        """
        return self._take(self._changed)

    def _take(self, kept: deque[int]) -> list[int]:
        with self._lock:
            self._hear()
            taken = list(kept)
            kept.clear()
        return taken

    def _hear(self) -> None:
        while True:
            try:
                event = recv_monitor_message(self._events, zmq.NOBLOCK)
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._came.append(event["value"])
            if event["event"] in (zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED):
                self._changed.append(event["value"])
