"""Everybody: one sink, its disk, the producers, and what must be true of them at the end."""

from __future__ import annotations

from collections import Counter

from deploy.bench.scale.clock import Clock
from deploy.bench.scale.disk import Disk
from deploy.bench.scale.link import Network
from deploy.bench.scale.producer import SimulatedProducer
from deploy.bench.scale.settings import Settings
from deploy.bench.scale.sink import Sink
from protocol.errors import HeadraceError

# The producers tick in turn, so that their heartbeats do not come in one burst.
_TURNS = 50
_TICK_S = 0.5


class SimulationError(HeadraceError):
    """What was simulated does not keep a promise, or does not come to an end."""


class World:
    """A clock and everyone who lives by it; producers come during the first second."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock(settings.seed)
        self.disk = Disk(self.clock, settings.disk, settings.commit_s)
        self.sink = Sink(self.clock, self.disk, settings)
        self.producers: list[SimulatedProducer] = []
        self._network = Network(self.clock, settings)
        self._piece = bytes(settings.piece_bytes)
        for _ in range(settings.producers):
            self.clock.at(self.clock.rng.random(), self.come)
        self._tick(0)

    def alive(self) -> list[SimulatedProducer]:
        """Those that work."""
        return [producer for producer in self.producers if not producer.gone]

    def all_welcome(self) -> bool:
        """Each that is alive has a session, and the sink has no other."""
        machine, alive = self.sink.machine, self.alive()
        return machine is not None and len(machine.sessions) == len(alive) and all(p.machine.ready for p in alive)

    def all_gone(self) -> bool:
        """Nobody works any more."""
        return len(self.producers) >= self.settings.producers and not self.alive()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(self.clock.now + seconds)

    def commits_by_producer(self, since: float) -> list[int]:
        """Episodes that became durable since then, of each that is alive."""
        counts = Counter(name for name, time in self.disk.durable.values() if time >= since)
        return [counts[f"p{number}"] for number, producer in enumerate(self.producers) if not producer.gone]

    def lost(self) -> int:
        """Indices of the goal, or acknowledged ones, that are not durable."""
        end = self.settings.goal.end or 0
        acked = {index for producer in self.producers for index in producer.acked}
        return len((acked | set(range(end))) - self.disk.durable.keys())

    def check_idle(self) -> None:
        """Nobody is left: so is no lease and no credit. Raises SimulationError."""
        machine = self.sink.machine
        assert machine is not None
        left = {
            "sessions": len(machine.sessions),
            "leases": sum(len(book.leases) for book in machine.books.values()),
            "commits": machine.committing,
            "bytes of credit": self.sink.config.credit_bytes - machine.credit.free_bytes,
        }
        if any(left.values()):
            raise SimulationError(f"everybody has left, and the sink still has {left}")

    def come(self) -> None:
        """One more producer."""
        self.producers.append(
            SimulatedProducer(self._network, self.sink, self.settings, len(self.producers), self._piece)
        )

    def _tick(self, turn: int) -> None:
        for producer in self.producers[turn % _TURNS :: _TURNS]:
            producer.tick()
        self.clock.at(self.clock.now + _TICK_S / _TURNS, lambda: self._tick(turn + 1))
