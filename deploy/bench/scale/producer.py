"""The shell round the real ProducerDelivery: makes an episode, sends it, asks for the next."""

from __future__ import annotations

from collections import deque

from deploy.bench.scale.link import Ends, Link, Network, Up
from deploy.bench.scale.settings import ATTRIBUTES, PIECES, SPEC, STATES, Settings
from deploy.bench.scale.sink import Sink
from protocol.messages import End, Outcome, Producer, decode_from_sink, encode
from protocol.producer_delivery import ProducerDelivery

# Episodes that may wait for their acknowledgement while the next is made.
_AHEAD = 2


class SimulatedProducer:
    """One producer. `acked`: the indices of which it heard that they are durable; `granted`: those it has to make."""

    def __init__(self, network: Network, sink: Sink, settings: Settings, number: int, piece: bytes) -> None:
        self.peer = f"peer-{number}".encode()
        self.acked: list[int] = []
        self.dead = self.done = False
        self._clock, self._settings, self._piece = network.clock, settings, piece
        self.granted: deque[int] = deque()
        self._working = self._asked = False
        self._inbox: list[bytes] = []
        self.link = Link(network, Ends(lambda messages: sink.arrive(self.peer, messages), self._hear))
        sink.links[self.peer] = self.link
        rng = self._clock.rng
        me = Producer(f"p{number}", "host", number)
        self.machine = ProducerDelivery(me, SPEC, settings.goal, self._clock.now, lambda: rng.getrandbits(62))
        self._go_on()

    @property
    def gone(self) -> bool:
        """It has said Bye, or died for ever."""
        return self.dead or self.machine.finished

    def tick(self) -> None:
        """Every half second."""
        if self.dead or self.machine.finished:
            return
        if self.machine.tick(self._clock.now):
            self.link.renew()
        self._pump()

    def die(self) -> None:
        """Without a word."""
        self.dead = True

    def wake(self) -> None:
        """It was only asleep, and goes on as if nothing had been."""
        self.dead = False
        inbox, self._inbox = self._inbox, []
        self._hear(inbox)
        if self._working:
            self._publish()

    def _hear(self, headers: list[bytes]) -> None:
        if self.dead:
            self._inbox += headers
            return
        for header in headers:
            self.machine.receive(self._clock.now, decode_from_sink(header))
        for event in self.machine.take_events():
            if event.kind == "leased" and event.index is not None:
                self._asked = False
                self.granted.append(event.index)
            elif event.kind == "committed" and event.index is not None:
                self.acked.append(event.index)
            elif event.kind == "done":
                self._asked, self.done = False, True
            elif event.kind == "refused":
                raise AssertionError(f"{self.peer!r} was refused: {event}")
        self._go_on()

    def _go_on(self) -> None:
        """Ask for a lease, begin to work, or leave, whichever it is time for."""
        machine = self.machine
        while self.granted and not machine.holds(self.granted[0]):
            self.granted.popleft()  # lost before it was begun
        if not self._working and machine.unacknowledged < _AHEAD:
            if self.granted:
                self._working = True
                takes = self._settings.work_s * self._clock.rng.uniform(2 / 3, 4 / 3)
                self._clock.at(self._clock.now + takes, self._publish)
            elif self.done and not machine.unacknowledged:
                machine.bye()
            elif not self._asked and not self.done:
                self._asked = True
                machine.want(1)
        self._pump()

    def _publish(self) -> None:
        """The episode is made."""
        if self.dead or not self._working:
            return
        self._working = False
        if self.granted:  # else another producer has it now
            index = self.granted.popleft()
            self.machine.begin(index)
            for step in range(PIECES):
                self.machine.frames(index, step, 1, [self._piece])
            end = End(
                session=0, index=index, outcome=Outcome.SUCCESS, steps=PIECES, seed=index, began_ns=1, ended_ns=2,
                checksum=3,
            )  # fmt: skip
            self.machine.end(end, (ATTRIBUTES, STATES))
        self._go_on()

    def _pump(self) -> None:
        messages: list[Up] = [
            (encode(outgoing.message), tuple(map(len, outgoing.payload))) for outgoing in self.machine.take_outgoing()
        ]
        if messages:
            self.link.up(messages)
