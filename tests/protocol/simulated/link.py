"""The way between one producer and the sink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.protocol.simulated.episodes import Payload
from tests.protocol.simulated.limits import LEASE_S

if TYPE_CHECKING:
    from tests.protocol.simulated.worker import Worker
    from tests.protocol.simulated.world import World


@dataclass(eq=False)
class _Flight:
    upward: bool
    deliver: Callable[[], None]
    lost: bool = False


class Link:
    """Between one producer and the sink. Delays vary, the order of a connection does not."""

    def __init__(self, world: World, worker: Worker) -> None:
        self.world = world
        self.worker = worker
        self.slow = 0.1
        self.repeat = 0
        self.dead_until = 0.0
        self.half_open = False  # nothing passes, and only a new connection helps
        self._last = {True: 0.0, False: 0.0}
        self._flights: list[_Flight] = []

    def up(self, header: bytes, payload: Payload) -> None:
        """Producer → sink."""
        peer = self.worker.peer
        self._carry(True, lambda: self.world.sink.receive(peer, header, payload))

    def down(self, header: bytes) -> None:
        """Sink → producer."""
        self._carry(False, lambda: self.worker.deliver(header))

    def cut(self) -> None:
        """The connection breaks and is made again at once. What is in flight is lost, arrives, or arrives late."""
        rng, now = self.world.rng, self.world.now
        keep = {True: rng.random() * 1.5 - 0.5, False: rng.random() * 1.5 - 0.5}
        late = rng.choice((0.0, 0.3, 1.0))  # how many of the others arrive after all, together or one by one
        together = rng.choice((None, rng.uniform(0, 1), rng.uniform(0, 4 * LEASE_S)))
        for place, flight in enumerate(self._flights[:]):
            if place < keep[flight.upward] * len(self._flights):
                continue
            flight.lost = True
            if rng.random() < late:
                delay = rng.uniform(0, 4 * LEASE_S) if together is None else together
                self._fly(now + delay, _Flight(flight.upward, flight.deliver))
        self._last = {True: 0.0, False: 0.0}
        self.half_open = False

    def heal(self) -> None:
        """No further trouble from here."""
        self.slow, self.repeat, self.dead_until = 0.1, 0, 0.0

    def _carry(self, upward: bool, deliver: Callable[[], None]) -> None:
        world = self.world
        if world.now < self.dead_until or self.half_open:
            return
        arrival = max(self._last[upward], world.now + world.rng.random() * self.slow)
        self._last[upward] = arrival
        self._fly(arrival, _Flight(upward, deliver))
        if self.repeat:
            self.repeat -= 1
            self._fly(arrival + world.rng.choice((0.0, 0.3, 10.0)), _Flight(upward, deliver))

    def _fly(self, arrival: float, flight: _Flight) -> None:
        self._flights.append(flight)
        self.world.at(arrival, lambda: self._land(flight))

    def _land(self, flight: _Flight) -> None:
        self._flights.remove(flight)
        if not flight.lost:
            flight.deliver()
