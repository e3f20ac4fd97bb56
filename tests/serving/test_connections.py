"""The guard of a ROUTER's connections: much sent before allows nobody more, and a late look takes nothing away."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from socket import socket

import pytest
import zmq
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.connections import ConnectionGuard, ConnectionLimits, ConnectionMetrics
from tests.processes import wait_until
from tests.sink.endless_client import connect

MIB = 1 << 20
EMPTY = b"\x00\x00"  # a message of one frame without bytes


class Watched(ConnectionGuard):
    """Counts its looks, and can be held up before it hears of a connection."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        registry = CollectorRegistry()
        cut = Counter("cut", "", ["reason"], registry=registry)
        metrics = ConnectionMetrics(Gauge("open", "", registry=registry), cut, Counter("late", "", registry=registry))
        self.registry, self.scans, self.gate = registry, 0, threading.Event()
        self.gate.set()
        super().__init__(router, ConnectionLimits(), metrics)

    def _accept(self, descriptors: list[int]) -> None:
        if descriptors:
            assert self.gate.wait(30)
        super()._accept(descriptors)

    def _scan(self, now: float) -> None:
        super()._scan(now)
        self.scans += 1

    def look(self, times: int) -> None:
        """Wait for so many looks."""
        target = self.scans + times
        wait_until(lambda: self.scans >= target, f"{times} looks")

    def cuts(self, reason: str) -> float:
        """How many connections were cut for this reason."""
        return self.registry.get_sample_value("cut_total", {"reason": reason}) or 0.0


class Server:
    """A ROUTER with a guard, whose socket's thread is that of the test."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.LINGER, 0)
        self.guard = Watched(self._router)
        self.port = self._router.bind_to_random_port("tcp://127.0.0.1")

    def take(self, messages: int) -> bytes:
        """Take so many messages; returns who sent the last."""
        for _ in range(messages):
            assert self._router.poll(30_000), "no message came"
            first = self._router.recv(copy=False)
            frames = []
            while self._router.get(zmq.RCVMORE):
                frames.append(self._router.recv())
            peer, size = first.bytes, sum(map(len, frames))
            self.guard.took(peer, int(first.get(zmq.SRCFD)), len(peer) + size, len(frames) + 1)
        return peer

    def close(self) -> None:
        """End both."""
        self.guard.gate.set()
        self.guard.close()
        self._router.close()
        self._context.term()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    try:
        yield made
    finally:
        made.close()


def frame(size: int, last: bool) -> bytes:
    """A frame on the wire."""
    return bytes([2 if last else 3]) + struct.pack(">Q", size) + bytes(size)


def send_without_end(stream: socket) -> None:
    """A message that never ends, until the other side ends the connection."""
    stream.settimeout(30)
    with suppress(OSError):
        while True:
            stream.sendall(frame(MIB, last=False))


def ends(stream: socket) -> bool:
    """The other side has ended the connection."""
    stream.settimeout(0.01)
    try:
        return not stream.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_who_sent_thousands_of_messages_may_not_bring_more_for_it(server: Server) -> None:
    with connect(server.port) as stream:
        stream.sendall(EMPTY * 3000)
        peer = server.take(3000)
        server.guard.answered(peer, 0, window=MIB)
        server.guard.look(10)
        threading.Thread(target=send_without_end, args=(stream,), daemon=True).start()
        wait_until(lambda: server.guard.cuts("backlog") == 1, "it is cut off")


def test_a_guard_that_hears_late_of_a_connection_believes_what_happened_meanwhile(server: Server) -> None:
    server.guard.gate.clear()
    with connect(server.port) as stream:
        stream.sendall(frame(MIB, last=True))
        peer = server.take(1)
        server.guard.answered(peer, 0, window=4 * MIB)
        stream.sendall(frame(3 * MIB, last=False))
        server.guard.gate.set()
        server.guard.look(10)
        assert not ends(stream)
        stream.sendall(frame(1, last=True))
        server.take(1)
    assert server.guard.cuts("backlog") == 0


def test_what_a_connection_was_allowed_dies_with_it(server: Server) -> None:
    descriptors = set()
    for window in (4 * MIB, 0):
        with connect(server.port) as stream:
            stream.sendall(EMPTY)
            peer = server.take(1)
            descriptors.add(server.guard._peers[peer])
            server.guard.answered(peer, 0, window)
            server.guard.look(3)
            stream.settimeout(30)
            if not window:
                stream.sendall(frame(MIB, last=False))
                wait_until(lambda: ends(stream), "it is cut off")
        server.guard.look(3)
    assert len(descriptors) == 1, "the number of the descriptor was used again"
    assert server.guard.cuts("backlog") == 1
