"""Who gets the leases when there are ten producers for each: the sink's machine alone, episodes that all fail."""

from __future__ import annotations

import random

from deploy.bench.scale.settings import SPEC
from protocol.interval_set import IntervalSet
from protocol.messages import (
    PROTOCOL_VERSION,
    Begin,
    End,
    FromProducer,
    Goal,
    Hello,
    Leased,
    Outcome,
    Producer,
    Want,
)
from protocol.orders import Finish
from protocol.sink_delivery import DeliveryConfig, SinkDelivery

# Producers for each lease.
SCARCITY = 10
# Leases that each gets on average.
ROUNDS = 5


class _Crowd:
    def __init__(self, producers: int) -> None:
        config = DeliveryConfig(credit_bytes=producers << 20, max_producers=producers)
        self.machine = SinkDelivery(config, 1, 0.0)
        self.machine.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
        self.held: list[tuple[int, int]] = []  # index, producer
        self.granted = [0] * producers
        self._seqs = [0] * producers
        goal = Goal(successes=max(1, producers // SCARCITY))
        for number in range(producers):
            me = Producer(f"p{number}")
            self.say(number, Hello(session=number, protocol=PROTOCOL_VERSION, producer=me, spec=SPEC, goal=goal))
            self.want(number)

    def want(self, number: int) -> None:
        self.say(number, Want(session=number, seq=self._seqs[number], count=1))

    def fail(self, place: int) -> None:
        """One that holds a lease fails, and wants the next at once."""
        self.held[place], self.held[-1] = self.held[-1], self.held[place]
        index, number = self.held.pop()
        self.want(number)
        self.say(number, Begin(session=number, seq=self._seqs[number], index=index))
        end = End(
            session=number, seq=self._seqs[number], index=index, outcome=Outcome.VOID, steps=0, seed=0, began_ns=0,
            ended_ns=0, checksum=0,
        )  # fmt: skip
        self.say(number, end, 2)

    def say(self, number: int, message: FromProducer, *sizes: int) -> None:
        self._seqs[number] += 1
        for order in self.machine.receive(0.0, number.to_bytes(4, "big"), message, sizes):
            if isinstance(order, Finish):
                self.machine.committed(0.0, SPEC.name, order.attempt.index, Outcome.VOID)
                self.machine.consumed(order.attempt.session, order.size)
        for peer, answer in self.machine.take_outbox():
            if isinstance(answer, Leased):
                holder = int.from_bytes(peer, "big")
                self.granted[holder] += len(answer.indices)
                self.held += [(index, holder) for index in answer.indices]


def leases_each(producers: int, seed: int) -> list[int]:
    """How many leases each producer got while all wanted one."""
    crowd, rng = _Crowd(producers), random.Random(seed)
    while sum(crowd.granted) < ROUNDS * producers:
        crowd.fail(rng.randrange(len(crowd.held)))
    return crowd.granted
