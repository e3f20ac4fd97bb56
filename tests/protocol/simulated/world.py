"""Time, chance, and everyone in the simulated world."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from protocol.messages import Goal
from protocol.spec import Camera, Column, StreamSpec
from tests.protocol.simulated.disk import Disk
from tests.protocol.simulated.limits import LEASE_S, SETTLE_S
from tests.protocol.simulated.link import Link
from tests.protocol.simulated.sink import Sink
from tests.protocol.simulated.worker import Worker


@dataclass(frozen=True)
class Task:
    """What the producers of one stream have to do together."""

    spec: StreamSpec
    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class Setup:
    """A world to begin with. windows: how many producers the sink's credit is enough for."""

    tasks: tuple[Task, ...]
    workers: int
    windows: int
    parallel: int = 2


class World:
    """The heap of what will happen, and everyone in it."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup = setup
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.numbers = count(1)
        self.workers: list[Worker] = []
        self.links: dict[bytes, Link] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.disk = Disk(self)
        self.sink = Sink(self)
        self.sink.start()
        goals = self.goals
        for number in range(max(setup.workers, len(goals))):
            self.add_worker(*goals[number % len(goals)])

    @property
    def goals(self) -> list[tuple[StreamSpec, Goal]]:
        """Every goal with its stream."""
        return [(task.spec, goal) for task in self.setup.tasks for goal in task.goals]

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._heap, (time, next(self.numbers), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Let something happen after a while."""
        self.at(self.now + delay, action)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            if until():
                return True
        self.now = end
        return until()

    def add_worker(self, spec: StreamSpec, goal: Goal, peer: bytes | None = None) -> Worker:
        """A new producer, under a new address or under that of one that died."""
        number = next(self.numbers)
        worker = Worker(self, peer or f"peer-{number}".encode(), f"worker-{number}", spec, goal)
        self.workers.append(worker)
        return worker

    def active(self) -> list[Worker]:
        """The producers that have not died or ended."""
        return [worker for worker in self.workers if worker.active]

    def settle(self) -> None:
        """All trouble ends; everyone must come to the end of the work, and nothing may be left over."""
        self.disk.heal()
        self.sink.heal()
        for link in self.links.values():
            link.heal()
        for worker in self.active():
            worker.wake()
        for spec, goal in self.goals:
            if not any(worker.spec == spec and worker.goal == goal for worker in self.active()):
                self.add_worker(spec, goal)
        ended = self.run(SETTLE_S, until=lambda: not self.active())
        assert ended, f"no end after {SETTLE_S} s: {[worker.state() for worker in self.active()]}, {self.sink.state()}"
        self.disk.check_goals()
        self.run(6 * LEASE_S)  # a Hello may still be on its way, and opens a session that nobody goes on with
        self.sink.check_idle()


_STATE = (Column("state", "float32", (4,)), Column("reward", "float64", (2,)))
_CAMERAS = (Camera("front", 64, 64), Camera("wrist", 64, 64))
FILMED = StreamSpec("sim/Filmed", 20.0, 4, _STATE, _CAMERAS)
SMALL = StreamSpec("sim/Small", 20.0, 5, _STATE)

SETUPS = (
    Setup((Task(FILMED, (Goal(successes=7),)),), workers=3, windows=4),
    Setup((Task(FILMED, (Goal(end=12),)),), workers=3, windows=3),
    Setup((Task(SMALL, (Goal(start=3, end=20, successes=6),)),), workers=4, windows=6, parallel=3),
    Setup(
        (Task(SMALL, (Goal(end=6), Goal(start=6, end=13))), Task(FILMED, (Goal(successes=3),))), workers=4, windows=6
    ),
    # More producers than the credit is enough for.
    Setup((Task(FILMED, (Goal(successes=5),)), Task(SMALL, (Goal(end=7),))), workers=5, windows=2),
)
