"""Watches the connections of a ROUTER, because libzmq takes what comes before anyone can say no.

Theory of operation. libzmq hands a multipart message over when its last frame is there, and has no limit on the number
of frames: a client that never sends the last one would fill the memory of the server with something that the server
never sees. So a thread compares, for each connection, what the kernel has received (TCP_INFO) with what the server has
taken. The difference lies in the kernel or in libzmq. An honest client keeps it below its credit window and some
headers; who exceeds that is cut off: `shutdown`, then libzmq closes the connection itself, and frees what it gathered.

A frame without bytes takes 2 bytes on the wire and 64 in libzmq. So the process' own memory is watched too: near its
bound the connection with the most bytes waiting goes, and the next, until there is room again.

A look at 10 000 connections takes some 50 ms of processor time, which the sink's other threads cannot use. So the next
one comes when ten times as long has passed, or twice as long if memory grows: a hundred connections are looked at ten
times a second, 10 000 about twice, and ten times if memory grows.

So memory is bounded as far as the thread looks in time. A machine that does not run it for a tenth of a second lets a
client on loopback bring a hundred MB meanwhile; `guard_late_total` among the metrics counts such times.

The other direction likewise: answers that a client does not fetch.

A connection is known by its descriptor. The number may be used again at once after libzmq has closed it; the inode of
the socket tells the two apart. In the moment between this look and `shutdown` the wrong connection could still be hit.
Its client connects again. What the socket's thread notes goes with the inode too, since this thread may hear of a
connection late, when much was taken from it and it has its window already.

Unix sockets have no TCP_INFO: for ipc endpoints only number, silence and memory are bounded, and the socket's file can
be used by its owner only.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import zmq
from prometheus_client import Counter, Gauge

from serving.connection_events import ConnectionEvents
from serving.limited_log import LimitedLog
from serving.process_memory import OwnMemory

log = logging.getLogger("headrace.daemon")

# Of a client that has no session: a Hello with 64 columns, 16 cameras and 4096 indices takes half of it.
STRANGER_BYTES = 256 * 1024
# Beside the credit window of a client that has one: headers, of which one may take 1 MiB.
HEADER_BYTES = 2 << 20
# Answers that wait for a client that does not read.
UNREAD_BYTES = 4 << 20
# All connections without a window together.
STRANGERS_BYTES = 8 << 20
# A frame of the wire has 2 to 9 bytes before it, with CURVE about 40.
FRAME_OVERHEAD = 64
# Without a session for so long: somebody else may need the place.
SILENCE_S = 30.0
HANDSHAKE_MS = 10_000
_LOOK_MS = 10
_LATE_S = 0.05
_SCAN_S = 0.1
# Of its time the thread may scan for so much, and when memory grows.
_SCAN_SHARE = 0.1
_SCAN_SHARE_IF_GROWN = 0.5
_GROWTH = 4 << 20
_TCP_INFO = struct.Struct("<120xQQ")


@dataclass(frozen=True)
class ConnectionLimits:
    """connections: how many at once. memory_bytes: bound of the process' own memory, or None.

    silence_s: a client without a session is cut off after that. stranger_bytes: that may wait on its connection;
    strangers_bytes: on those of all such clients. margin_bytes: the memory is near its bound; None: an eighth of it.
    """

    connections: int = 144
    memory_bytes: int | None = None
    silence_s: float = SILENCE_S
    stranger_bytes: int = STRANGER_BYTES
    strangers_bytes: int = STRANGERS_BYTES
    margin_bytes: int | None = None


@dataclass(frozen=True)
class ConnectionMetrics:
    """open: connections. cut: those that were cut off, by reason. late: times that nobody watched for long."""

    open: Gauge
    cut: Counter
    late: Counter


@dataclass
class _Connection:
    fd: int
    inode: int
    last_served: float
    sent_before: int
    has_tcp_info: bool
    overcounted: int = 0  # bytes noted as taken that never came, at least: what frames have round them is guessed
    window: int = 0
    waiting: int = 0  # bytes that came and were not taken
    unread: int = 0  # bytes that were sent and not acknowledged by the peer's kernel
    cut: bool = False


class ConnectionGuard:
    """Made before the socket is bound. `took`, `answered` and `serves` are for the thread that owns the socket."""

    def __init__(self, router: zmq.Socket[bytes], limits: ConnectionLimits, metrics: ConnectionMetrics) -> None:
        self._limits, self._metrics = limits, metrics
        router.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._events = ConnectionEvents(router)
        # By descriptor; written by the socket's thread only. A pair is an inode and what is known of that connection.
        self._taken: dict[int, tuple[int | None, int]] = {}
        self._windows: dict[int, tuple[int | None, int]] = {}
        self._sent: dict[int, int] = {}
        self._served: frozenset[int] = frozenset()
        self._peers: dict[bytes, int] = {}
        self._expelled: deque[int] = deque()
        self._connections: dict[int, _Connection] = {}
        self._memory = OwnMemory()
        self._memory_then = self._memory.read()
        self._next_scan = self._next_scan_if_grown = 0.0
        self._log = LimitedLog(log)
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Before the socket is closed."""
        self._events.stop()
        self._closing.set()
        self._thread.join()
        self._events.close()
        self._memory.close()

    # --- the socket's thread ----------------------------------------------------------------------------------

    def took(self, peer: bytes, fd: int, size: int, frames: int) -> None:
        """A message of `frames` frames and `size` bytes in all was taken from this connection."""
        self._peers[peer] = fd
        inode = _inode(fd)
        known, before = self._taken.get(fd, (None, 0))
        self._taken[fd] = (inode, (before if known == inode else 0) + size + FRAME_OVERHEAD * frames)

    def answered(self, peer: bytes, size: int, window: int = 0) -> None:
        """`size` bytes were handed to libzmq for this peer. window: what it may send from now on, if it may."""
        fd = self._peers.get(peer)
        if fd is not None:
            self._sent[fd] = self._sent.get(fd, 0) + size
            if window:
                inode = _inode(fd)
                known, before = self._windows.get(fd, (None, 0))
                self._windows[fd] = (inode, max(window, before if known == inode else 0))

    def serves(self, peers: Iterable[bytes], waiting: Iterable[bytes] = ()) -> None:
        """These have a session now; `waiting` will be answered later. To be called every second or so."""
        if self._error is not None:
            raise self._error
        served = {peer: self._peers[peer] for peer in peers if peer in self._peers}
        self._served = frozenset(served.values())
        self._peers = served | {peer: self._peers[peer] for peer in waiting if peer in self._peers}
        self._log.flush()

    def expel(self, peer: bytes) -> None:
        """Cut its connection off soon: its key does not count any more."""
        fd = self._peers.get(peer)
        if fd is not None:
            self._expelled.append(fd)

    def changed(self) -> list[int]:
        """Connections that ended since the last call, or began: see `ConnectionEvents.changed`."""
        return self._events.changed()

    # --- the thread of the guard ------------------------------------------------------------------------------

    def _run(self) -> None:
        looked = time.monotonic()
        try:
            while not self._closing.is_set():
                self._events.wait(_LOOK_MS)
                self._accept(self._events.came())
                before, looked = looked, time.monotonic()
                if looked - before >= _LATE_S:
                    self._metrics.late.inc()
                memory = self._memory.read()
                self._memory_then = min(self._memory_then, memory)
                grew = memory - self._memory_then > _GROWTH
                if time.monotonic() >= (self._next_scan_if_grown if grew else self._next_scan):
                    self._scan(time.monotonic())
        except BaseException as error:  # raised by the socket's thread, which must not go on without a guard
            self._error = error

    def _accept(self, descriptors: list[int]) -> None:
        for fd in descriptors:
            inode = _inode(fd)
            if inode is None:
                continue
            self._connections.pop(fd, None)  # to its new place: they are in the order of their coming
            sent = self._sent.get(fd, 0)
            self._connections[fd] = _Connection(fd, inode, time.monotonic(), sent, _has_tcp_info(fd))
        if descriptors:
            self._make_room()

    def _make_room(self) -> None:
        open_now = [c for c in self._connections.values() if not c.cut]
        if len(open_now) <= self._limits.connections:
            return
        open_now = [c for c in open_now if _inode(c.fd) == c.inode]
        too_many = len(open_now) - self._limits.connections
        # Who has a session stays. Of the others the oldest has had the most time to get one.
        open_now.sort(key=lambda c: c.fd in self._served)
        for connection in open_now[: max(too_many, 0)]:
            why = f"there are more than {self._limits.connections}; --max-connections"
            self._cut(connection, "too_many", why)

    def _scan(self, now: float) -> None:
        began = time.thread_time()
        for connection in list(self._connections.values()):
            if not self._measure(connection):
                del self._connections[connection.fd]
            elif connection.fd in self._served:
                connection.last_served = now
        here = [c for c in self._connections.values() if not c.cut]
        self._metrics.open.set(len(here))
        while self._expelled:
            revoked = self._connections.get(self._expelled.popleft())
            if revoked is not None and not revoked.cut:
                self._cut(revoked, "revoked", "its key was revoked")
        for connection in here:
            self._judge(connection, now)
        strangers = sorted((c for c in here if not c.cut and not c.window), key=lambda c: -c.waiting)
        total = sum(c.waiting for c in strangers)
        for connection in strangers:
            if total <= self._limits.strangers_bytes:
                break
            total -= connection.waiting
            why = f"clients without a session have more than {self._limits.strangers_bytes} bytes here"
            self._cut(connection, "backlog", why)
        self._relieve(here)
        self._memory_then = self._memory.read()
        took = time.thread_time() - began
        self._next_scan = now + max(_SCAN_S, took / _SCAN_SHARE)
        self._next_scan_if_grown = now + took / _SCAN_SHARE_IF_GROWN

    def _judge(self, connection: _Connection, now: float) -> None:
        most = connection.window + HEADER_BYTES if connection.window else self._limits.stranger_bytes
        if connection.waiting > most:
            why = f"{connection.waiting} bytes came that make no whole messages; expected at most {most}"
            self._cut(connection, "backlog", why)
        elif connection.unread > UNREAD_BYTES:
            self._cut(connection, "unread", f"it does not read: {connection.unread} bytes wait for it")
        elif now - connection.last_served > self._limits.silence_s:
            self._cut(connection, "silent", f"it has had no session for {self._limits.silence_s:g} s")

    def _relieve(self, here: list[_Connection]) -> None:
        """Near the bound of the memory, cut off who has the most waiting; one at a time, and see."""
        bound, margin = self._limits.memory_bytes, self._limits.margin_bytes
        if bound is None:
            return
        near = bound - (bound // 8 if margin is None else margin)
        if self._memory.read() < near:
            return
        self._memory.give_back()
        memory = self._memory.read()
        worst = max((c for c in here if not c.cut), key=lambda c: max(c.waiting, c.unread), default=None)
        if memory < near or worst is None:
            return
        if max(worst.waiting, worst.unread) > STRANGER_BYTES // 8:
            self._cut(worst, "memory", f"{worst.waiting} bytes wait, and {memory} of {bound} bytes of memory are used")

    def _measure(self, connection: _Connection) -> bool:
        """Compare the kernel's counts with ours. False: the connection is gone."""
        fd = connection.fd
        if _inode(fd) != connection.inode:
            return False
        known, window = self._windows.get(fd, (None, 0))
        if known == connection.inode:
            connection.window = window
        if not connection.has_tcp_info:
            return True
        noted = self._taken_of(connection)
        try:
            # With family, type and protocol given, Python asks the kernel for none of them.
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fd)
            try:
                answer = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            finally:
                stream.detach()
            acknowledged, received = _TCP_INFO.unpack_from(answer)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.ENOTSOCK, errno.EOPNOTSUPP):
                return False
            raise
        # What was taken before had been received. What is taken meanwhile must not look like bytes that wait, so it is
        # asked again; the account errs on the client's side, and is exact whenever nothing waits.
        connection.overcounted = max(connection.overcounted, noted - received)
        connection.waiting = max(received - (self._taken_of(connection) - connection.overcounted), 0)
        unread = self._sent.get(fd, 0) - connection.sent_before - acknowledged
        connection.sent_before += min(unread, 0)
        connection.unread = max(unread, 0)
        return True

    def _taken_of(self, connection: _Connection) -> int:
        inode, taken = self._taken.get(connection.fd, (None, 0))
        return taken if inode == connection.inode else 0

    def _cut(self, connection: _Connection, reason: str, why: str) -> None:
        connection.cut = True
        if _inode(connection.fd) != connection.inode:
            return
        peer = "a local process"
        try:
            with _borrowed(connection.fd) as stream:
                if stream.family != socket.AF_UNIX:
                    peer = str(stream.getpeername()[0])
                stream.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN):
                raise
        self._metrics.cut.labels(reason).inc()
        self._log.warning(f"a connection was cut: {reason}", "cut a connection from %s: %s", peer, why)


def _inode(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


def _has_tcp_info(fd: int) -> bool:
    try:
        with _borrowed(fd) as stream:
            return stream.family != socket.AF_UNIX
    except OSError:  # it is gone again, as the next look will see
        return True


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """The socket of a descriptor that libzmq owns and closes."""
    stream = socket.socket(fileno=fd)
    try:
        yield stream
    finally:
        stream.detach()
