"""`python -m tests.sink.endless_client PORT FRAME_BYTES SECONDS`: frames of one message that never ends, over and over.

A plain socket that speaks ZMTP 3.1: libzmq's own client would not send half a message.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"


def connect(port: int) -> socket.socket:
    """Greet, and shake hands."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=1)
    stream.sendall(GREETING + bytes([4, len(READY)]) + READY)
    left = 64 + 2
    while left > 0:
        got = stream.recv(left)
        if not got:
            raise ConnectionError
        left -= len(got)
    return stream


def main(port: str, frame_bytes: str, seconds: str) -> None:
    """Connect again whenever the sink ends it."""
    size, ends = int(frame_bytes), time.monotonic() + float(seconds)
    head = b"\x03" + struct.pack(">Q", size) if size > 255 else bytes([1, size])
    batch = (head + bytes(size)) * max(1, (1 << 20) // (size + 9))
    cut = sent = 0
    while time.monotonic() < ends:
        try:
            with connect(int(port)) as stream:
                while time.monotonic() < ends:
                    stream.sendall(batch)
                    sent += len(batch)
        except OSError:
            cut += 1
    sys.stderr.write(f"CUT {cut} SENT {sent}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
