"""What is left of a producer's old connection when it has come back on a new one."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

import zmq

from protocol.messages import Welcome
from tests.processes import SinkProcess, wait_until
from tests.raw_producer import RawProducer

IDENTITY = b"hcomes-back"
# What HEARTBEAT_IVL was when the process died of it [s].
HEARTBEAT_S = 5.0
MESSAGE = b"\x00\xfa" + bytes(250)


class OldConnection:
    """ZMTP 3.0 by hand, as a DEALER that names its identity; does not read after the handshake."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._stream = socket.create_connection((host, int(port)))
        properties = b"".join(
            bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
            for name, value in ((b"Socket-Type", b"DEALER"), (b"Identity", IDENTITY))
        )
        ready = b"\x05READY" + properties
        self._stream.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(55, b"\x00"))
        self._stream.sendall(bytes([4, len(ready)]) + ready)
        heard = b""
        while b"READY" not in heard:
            heard += self._stream.recv(4096)

    def send_until_nobody_reads(self) -> None:
        """Messages, until they stay in the sink's kernel."""

        def stays() -> bool:
            self._stream.sendall(MESSAGE)
            return self._unread() > 10 * len(MESSAGE)

        wait_until(stays, "libzmq stops reading the old connection")

    def reset(self) -> None:
        """RST."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.close()

    def _unread(self) -> int:
        """Bytes in the sink's receive queue of this connection."""
        here, there = self._stream.getsockname()[1], self._stream.getpeername()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if int(local.split(":")[1], 16) == there and int(remote.split(":")[1], 16) == here:
                return int(queues.split(":")[1], 16)
        raise AssertionError("the sink has closed the old connection")


def test_an_old_connection_that_breaks_after_its_producer_came_back_harms_nobody(tmp_path: Path) -> None:
    """With heartbeats of its own, libzmq 4.3.5 aborts the process when one meets such a connection."""
    with SinkProcess(tmp_path / "data") as sink:
        sink.ready()
        old = OldConnection(sink.endpoint)
        with RawProducer(sink.endpoint, options={zmq.IDENTITY: IDENTITY}) as producer:
            producer.hello()
            producer.hear(Welcome)
            old.send_until_nobody_reads()
            old.reset()
            ends = time.monotonic() + HEARTBEAT_S + 1
            wait_until(lambda: sink.child.poll() is not None or time.monotonic() > ends, "a heartbeat's time")
        with RawProducer(sink.endpoint) as another:
            another.lease()
        assert sink.terminate() == 0, sink.output
