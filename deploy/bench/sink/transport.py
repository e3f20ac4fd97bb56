"""What the network can do with CURVE: ZeroMQ from two senders to one receiver that drops everything.

`python -m deploy.bench.sink.transport receive|send …`. The messages are those of a producer (a header, then as many
frames as it puts into one message), and so is the flow: a window of bytes, given back as messages arrive.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
import zmq

from protocol.keys import read_client_key, read_sink_key

WINDOW_BYTES = 32 << 20
MESSAGE_BYTES = 512 << 10
_HEADER = b"h" * 60
_BYE = b"bye"


@dataclass(frozen=True)
class Receive:
    """Take everything."""

    senders: int
    """Wait for so many to be through."""
    keys: Path
    """Keys directory: encrypt with the sink's."""


@dataclass(frozen=True)
class Send:
    """Send frames."""

    endpoint: str
    """Of the receiver."""
    frames: Path
    """Directory of JPEG files."""
    count: int
    """Frames to send."""
    wait: Path
    """Begin when this file exists."""
    key: Path
    """Key file of a client of those keys."""


Command = Annotated[Receive, tyro.conf.subcommand("receive")] | Annotated[Send, tyro.conf.subcommand("send")]


def receive(flags: Receive) -> None:
    """Print the endpoint, then {"bytes", "last": last}."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.set(zmq.RCVHWM, 256)
    key = read_sink_key(flags.keys)
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
    socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
    socket.bind("tcp://127.0.0.1:0")
    sys.stdout.write(socket.get_string(zmq.LAST_ENDPOINT) + "\n")
    sys.stdout.flush()
    total, through, last = 0, 0, time.time()
    owed: dict[bytes, int] = {}
    while through < flags.senders:
        peer, header, *frames = socket.recv_multipart(copy=False)
        if header.bytes == b"end":
            through += 1
            socket.send_multipart([peer.bytes, _BYE])
            continue
        last = time.time()
        size = sum(len(frame.buffer) for frame in frames)
        total += size
        owed[peer.bytes] = owed.get(peer.bytes, 0) + size
        if owed[peer.bytes] >= WINDOW_BYTES // 8:
            socket.send_multipart([peer.bytes, str(owed.pop(peer.bytes)).encode()])
    json.dump({"bytes": total, "last": last}, sys.stdout)
    context.destroy(linger=1000)


def send(flags: Send) -> None:
    """Say `ready` on stderr, wait, send."""
    frames = [path.read_bytes() for path in sorted(flags.frames.glob("*.jpg"))]
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    key = read_client_key(flags.key)
    socket.set(zmq.CURVE_SERVERKEY, key.sink.encode())
    socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
    socket.connect(flags.endpoint)
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    while not flags.wait.exists():
        time.sleep(0.001)
    credit, sent = WINDOW_BYTES, 0
    while sent < flags.count:
        message: list[bytes] = []
        size = 0
        while sent < flags.count and size < MESSAGE_BYTES:
            message.append(frames[sent % len(frames)])
            size += len(message[-1])
            sent += 1
        while credit < size:
            credit += int(socket.recv())
        credit -= size
        socket.send_multipart([_HEADER, *message])
    socket.send(b"end")
    while socket.recv() != _BYE:  # what is under way when a connection ends may be lost
        pass
    context.destroy(linger=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one side."""
    command = tyro.cli(Command, prog="deploy.bench.sink.transport", args=argv)
    if isinstance(command, Receive):
        receive(command)
    else:
        send(command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
