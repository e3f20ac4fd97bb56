"""One of many producers that share a process: the delivery machine of a real one on a socket of its own."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from protocol.checksum import Buffer
from protocol.errors import RefusedError
from protocol.messages import End, Goal, Producer, decode_from_sink, encode
from protocol.producer_delivery import ProducerDelivery
from protocol.spec import StreamSpec


class Member:
    """Used by one thread. `granted`: leased indices that wait to be produced. It is the Outbox of its episodes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, name: str, spec: StreamSpec) -> None:
        self.granted: deque[int] = deque()
        self.committed: list[int] = []
        self.sessions = 0
        self._context, self._endpoint, self._name = context, endpoint, name
        self._machine = ProducerDelivery(Producer(name), spec, Goal(), time.monotonic(), lambda: secrets.randbits(62))
        self.socket = self._connect()

    def want(self) -> None:
        """Ask for one more index."""
        self._machine.want(1)

    def receive(self) -> None:
        """Take what has come."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._machine.receive(time.monotonic(), decode_from_sink(frames[0]))
        for event in self._machine.take_events():
            if event.kind == "welcome":
                self.sessions += 1
            elif event.kind == "leased" and event.index is not None:
                self.granted.append(event.index)
            elif event.kind == "committed" and event.index is not None:
                self.committed.append(event.index)
            elif event.kind == "refused":
                raise RefusedError(event.code or "", event.why)

    def tick(self, renewed: Callable[[Member, zmq.Socket[bytes]], None]) -> None:
        """To be called every 100 ms or so. renewed: gets the old socket when there is a new one."""
        if self._machine.tick(time.monotonic()):
            old, self.socket = self.socket, self._connect()
            renewed(self, old)
            old.close(linger=0)

    def flush(self) -> None:
        """Send what may be sent."""
        for part in self._machine.take_outgoing():
            try:
                self.socket.send_multipart([encode(part.message), *part.payload], zmq.NOBLOCK)
            except zmq.Again:
                continue  # as in the Publisher: the gap in `seq` leads to a new session, which sends it again

    def leave(self) -> None:
        """Say Bye."""
        self._machine.bye()
        self.flush()
        self.socket.close(linger=500)

    def _connect(self) -> zmq.Socket[bytes]:
        made = self._context.socket(zmq.DEALER)
        made.set(zmq.IDENTITY, b"m" + self._name.encode())
        made.set(zmq.LINGER, 0)
        made.set(zmq.SNDHWM, 10_000)
        made.connect(self._endpoint)
        return made

    # --- an episode's Outbox ------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """The simulation goes on: there is none that could hang."""

    def begin(self, index: int) -> None:
        """Begin the episode of a leased index."""
        self._machine.begin(index)

    def begin_again(self, index: int) -> None:
        """Forget what was sent of an episode, and begin it again."""
        self._machine.begin_again(index)

    def send_frames(self, index: int, first: int, count: int, frames: Sequence[Buffer]) -> None:
        """Send the frames of `count` steps."""
        self._machine.frames(index, first, count, frames)

    def send_end(self, end: End, payload: Sequence[Buffer], documents: Sequence[bytes]) -> None:
        """Send the end of an episode."""
        self._machine.end(end, payload, documents)

    def abandon(self, index: int) -> None:
        """Give an index back."""
        self._machine.abandon(index)

    def holds(self, index: int) -> bool:
        """The index is leased to us, or its episode waits for its commit."""
        return self._machine.holds(index)
