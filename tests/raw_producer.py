"""A producer without a delivery machine: says exactly what a test tells it to, right or wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import zmq

from protocol.messages import (
    PROTOCOL_VERSION,
    Begin,
    Document,
    End,
    Frames,
    FromProducer,
    FromSink,
    Goal,
    Hello,
    Leased,
    Producer,
    Refused,
    Want,
    Welcome,
    decode_from_sink,
    encode,
)
from protocol.spec import StreamSpec
from tests.fakes import CountedEpisode, counted_episode, counting_spec

M = TypeVar("M", bound=FromSink)

DEADLINE_S = 20.0


class RawProducer:
    """A DEALER that numbers its messages, and nothing more."""

    def __init__(
        self,
        endpoint: str,
        spec: StreamSpec | None = None,
        name: str = "raw",
        options: Mapping[int, int | bytes] | None = None,
    ) -> None:
        """options: of the socket, set before it connects."""
        self.spec = spec or counting_spec()
        self.session = time.time_ns()
        self.seq = 0
        self.name = name
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        for option, value in (options or {}).items():
            self.socket.set(option, value)
        self.socket.connect(endpoint)
        self.heard: list[FromSink] = []

    def __enter__(self) -> RawProducer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.socket.close()
        self._context.term()

    def send(self, message: FromProducer, *payload: bytes) -> None:
        """Stamp and send."""
        stamped = msgspec.structs.replace(message, session=self.session, seq=self.seq)
        self.seq += 1
        self.socket.send_multipart([encode(stamped), *payload])

    def hear(self, kind: type[M]) -> M:
        """The next message of a kind; others are kept in `heard`. Fails if it does not come."""
        ends = time.monotonic() + DEADLINE_S
        while (left := ends - time.monotonic()) > 0:
            if self.socket.poll(left * 1000):
                message = decode_from_sink(self.socket.recv_multipart()[0])
                self.heard.append(message)
                if isinstance(message, kind):
                    return message
        raise AssertionError(f"no {kind.__name__} came; heard {self.heard}")

    def hello(self, goal: Goal | None = None, protocol: int = PROTOCOL_VERSION, **fields: Any) -> None:
        """Say Hello."""
        me = Producer(self.name)
        self.send(Hello(session=0, protocol=protocol, producer=me, spec=self.spec, goal=goal or Goal(), **fields))

    def lease(self, goal: Goal | None = None) -> int:
        """Say Hello, and return a leased index."""
        self.hello(goal)
        self.hear(Welcome)
        return self.next_lease()

    def next_lease(self) -> int:
        """One more index."""
        self.send(Want(session=0, count=1))
        return self.hear(Leased).indices[0]

    def begin(self, index: int) -> CountedEpisode:
        """Send Begin and all frames of an index; returns what belongs in its End."""
        made = counted_episode(self.spec, index)
        self.send(Begin(session=0, index=index))
        for step, frames in enumerate(made.messages()):
            self.frames(index, step, frames)
        return made

    def frames(self, index: int, first: int, frames: Sequence[bytes]) -> None:
        """Send the frames of one step."""
        sizes = tuple(map(len, frames))
        self.send(Frames(session=0, index=index, first=first, count=1, sizes=sizes), b"".join(frames))

    def documents(self, made: CountedEpisode) -> None:
        """Send the documents of an episode."""
        for name, document in zip(made.end().documents, made.documents.values(), strict=False):
            self.send(Document(session=0, sha256=name), document)

    def end(self, made: CountedEpisode, payload: Sequence[bytes] | None = None, **changes: Any) -> None:
        """Send the End, with documents."""
        self.documents(made)
        end: End = made.end(**changes)
        self.send(end, *(made.payload() if payload is None else payload))

    def refusal(self) -> Refused:
        """The next Refused."""
        return self.hear(Refused)
