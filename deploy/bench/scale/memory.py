"""What one producer takes of the sink's memory, besides its payload."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from deploy.bench.scale.settings import SPEC
from protocol.interval_set import IntervalSet
from protocol.messages import (
    PROTOCOL_VERSION,
    Begin,
    FromProducer,
    Goal,
    Hello,
    Producer,
    Want,
    decode_from_producer,
    encode,
)
from protocol.sink_delivery import DeliveryConfig, SinkDelivery


@dataclass(frozen=True)
class Memory:
    """Bytes a producer: of its session with account of credit and place among those of its stream; of one lease; of an
    episode that has begun. total_mb: of all."""

    session: float
    lease: float
    episode: float
    total_mb: float


def measure(producers: int) -> Memory:
    """Open so many sessions, each with one lease and one episode under way; what the allocator gave them."""
    crowd = _Crowd(producers)
    with _traced():
        before = _used()
        crowd.say_hello()
        sessions = _used()
        crowd.say(Want(session=0, count=1), seq=1)
        leases = _used()
        for number in range(producers):
            crowd.say_one(number, Begin(session=0, index=number), seq=2)
        episodes = _used()
    parts = ((sessions - before) / producers, (leases - sessions) / producers, (episodes - leases) / producers)
    return Memory(*parts, (episodes - before) / 1e6)


class _Crowd:
    """A machine, and producers that say the same."""

    def __init__(self, producers: int) -> None:
        config = DeliveryConfig(credit_bytes=producers << 20, max_producers=producers, max_leases=16 * producers)
        self.machine = SinkDelivery(config, 1, 0.0)
        self.machine.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
        self._peers = [b"p" + number.to_bytes(15, "big") for number in range(producers)]

    def say_hello(self) -> None:
        for number in range(len(self._peers)):
            me = Producer(f"machine-{number % 500}:{number}", f"machine-{number % 500}", number)
            goal = Goal(successes=1_000_000)
            hello = Hello(session=0, protocol=PROTOCOL_VERSION, producer=me, spec=SPEC, goal=goal)
            self.say_one(number, hello, seq=0)

    def say(self, message: FromProducer, seq: int) -> None:
        for number in range(len(self._peers)):
            self.say_one(number, message, seq)

    def say_one(self, number: int, message: FromProducer, seq: int) -> None:
        """Through the wire's form, so that nothing is shared that a real sink could not share."""
        header = encode(msgspec.structs.replace(message, session=number, seq=seq))
        self.machine.receive(0.0, self._peers[number], decode_from_producer(header))
        self.machine.take_outbox()


def _used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@contextmanager
def _traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
