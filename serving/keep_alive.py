"""Finding connections whose other end is gone."""

from __future__ import annotations

import zmq


def keep_alive(router: zmq.Socket[bytes]) -> None:
    """Let TCP notice within half a minute. Before the socket is bound.

    Not libzmq's heartbeats: they abort the process when a connection breaks from which it had stopped reading, because
    of a HANDOVER or a full queue (libzmq 4.3.5, its issues 4364 and 4841).
    """
    router.set(zmq.TCP_KEEPALIVE, 1)
    router.set(zmq.TCP_KEEPALIVE_IDLE, 15)
    router.set(zmq.TCP_KEEPALIVE_INTVL, 5)
    router.set(zmq.TCP_KEEPALIVE_CNT, 3)
    router.set(zmq.TCP_MAXRT, 30_000)
