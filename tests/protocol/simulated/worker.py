"""The shell round the real ProducerDelivery, which makes episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from protocol.messages import End, Goal, Outcome, Producer, decode_from_sink, encode
from protocol.producer_delivery import ProducerDelivery
from protocol.spec import StreamSpec
from tests.protocol.simulated.episodes import attributes, columns, document, frame, outcome_of, steps_of
from tests.protocol.simulated.link import Link

if TYPE_CHECKING:
    from tests.protocol.simulated.world import World


@dataclass
class _Episode:
    todo: list[Callable[[], None]] = field(default_factory=list)


class Worker:
    """The shell round ProducerDelivery: takes leases, makes episodes at an uneven pace, leaves when the goal is met."""

    def __init__(self, world: World, peer: bytes, name: str, spec: StreamSpec, goal: Goal) -> None:
        self.world, self.peer, self.name, self.spec, self.goal = world, peer, name, spec, goal
        self.active = True
        self.asleep_until = 0.0
        self.pace_s = world.rng.choice((0.05, 0.3, 1.5))
        self.machine = ProducerDelivery(
            Producer(name), spec, goal, world.now, lambda: world.rng.getrandbits(48) << 15 | next(world.numbers)
        )
        self._asked = 0
        self._done = False
        self._inbox: list[bytes] = []
        self._given_up: set[int] = set()
        self._episodes: dict[int, _Episode] = {}
        self._link = world.links[peer] = Link(world, self)
        self._tick()
        self._work()

    def deliver(self, header: bytes) -> None:
        """A message of the sink has come; a hanging producer finds it later."""
        if self.active:
            self._inbox.append(header)
            if self.world.now >= self.asleep_until:
                self._read()

    def kill(self) -> None:
        """The process dies without a word."""
        self.active = False

    def hang(self, seconds: float) -> None:
        """The process stands still, and goes on as if nothing had been."""
        self.asleep_until = self.world.now + seconds

    def wake(self) -> None:
        """Go on."""
        self.asleep_until = 0.0

    def abandon(self) -> None:
        """Give one index back."""
        if self._episodes and self._awake():
            index = self.world.rng.choice(sorted(self._episodes))
            del self._episodes[index]
            self._given_up.add(index)
            self.machine.abandon(index)
            self._pump()

    def state(self) -> str:
        """For the message of a failed test."""
        return f"{self.name}: asked {self._asked}, done {self._done}, holds {sorted(self._episodes)}"

    def _awake(self) -> bool:
        return self.active and self.world.now >= self.asleep_until

    def _tick(self) -> None:
        if self._awake():
            self._read()
            if self.machine.tick(self.world.now):
                self._link.cut()
            self._pump()
        if self.active:
            self.world.after(0.2, self._tick)

    def _work(self) -> None:
        if self._awake():
            missing = self.world.setup.parallel - len(self._episodes) - self._asked
            if missing > 0 and not self._done:
                self._asked += missing
                self.machine.want(missing)
            busy = [episode for episode in self._episodes.values() if episode.todo]
            if busy:
                self.world.rng.choice(busy).todo.pop(0)()
            elif self._done and not self._episodes:
                self.machine.bye()
            self._pump()
        if self.active:
            self.world.after(self.pace_s * self.world.rng.random(), self._work)

    def _read(self) -> None:
        inbox, self._inbox = self._inbox, []
        for header in inbox:
            self.machine.receive(self.world.now, decode_from_sink(header))
        self._learn()
        self._pump()

    def _learn(self) -> None:
        for event in self.machine.take_events():
            match event.kind:
                case "leased":
                    assert event.index is not None
                    self._asked = max(self._asked - 1, 0)
                    self._episodes[event.index] = self._plan(event.index)
                case "committed":
                    assert event.index is not None
                    assert (self.spec.name, event.index) in self.world.disk.episodes
                    del self._episodes[event.index]
                case "lost":
                    assert event.index is not None
                    author = self.world.disk.authors.get((self.spec.name, event.index))
                    assert author != self.name, f"{self.name} is told that {event.index} is lost, but it is committed"
                    del self._episodes[event.index]
                case "refused":
                    assert event.index is not None, f"{self.name} is refused for ever: {event}"
                    # What was given up may have been leased again before the sink heard of it.
                    assert event.code == "bad_frame" or event.index in self._given_up, event
                    self._given_up.add(event.index)
                    del self._episodes[event.index]
                case "done":
                    self._asked, self._done = 0, True
                    self._check_done()
                case _:
                    assert event.kind in ("welcome", "drain", "notice")
        assert all(map(self.machine.holds, self._episodes))

    def _check_done(self) -> None:
        successes = self.world.disk.indices(self.spec.name, Outcome.SUCCESS)
        there = self.world.disk.indices(self.spec.name)
        enough = self.goal.successes is not None and len(successes) >= self.goal.successes
        whole = self.goal.end is not None and set(range(self.goal.start, self.goal.end)) <= set(there)
        assert enough or whole, f"Done, but {self.goal} is not met"

    def _pump(self) -> None:
        for outgoing in self.machine.take_outgoing():
            self._link.up(encode(outgoing.message), tuple(map(bytes, outgoing.payload)))
        if self.machine.finished:
            self.active = False

    def _plan(self, index: int) -> _Episode:
        """What is to be called, one after the other, to make the episode."""
        made_in, rng, machine = next(self.world.numbers), self.world.rng, self.machine
        episode = _Episode([lambda: machine.begin(index)])
        if rng.random() < 0.2:
            # The environment breaks in the middle, and all that was sent so far has to be forgotten.
            episode.todo += self._plan_frames(index, rng.randint(0, self.spec.max_steps), next(self.world.numbers))
            episode.todo.append(lambda: machine.begin_again(index))
        steps = steps_of(self.spec, index)
        episode.todo += self._plan_frames(index, steps, made_in)
        end = End(
            session=0,
            index=index,
            outcome=outcome_of(index),
            steps=steps,
            seed=index,
            began_ns=1,
            ended_ns=2,
            checksum=3,
        )
        payload = (attributes(made_in), *columns(self.spec, index))
        episode.todo.append(lambda: machine.end(end, payload, [document(index)]))
        return episode

    def _plan_frames(self, index: int, steps: int, made_in: int) -> list[Callable[[], None]]:
        cameras = len(self.spec.cameras)
        todo: list[Callable[[], None]] = []
        first = 0
        while cameras and first < steps:
            number = min(self.world.rng.randint(1, 2), steps - first)
            data = [frame(index, s, c, made_in) for s in range(first, first + number) for c in range(cameras)]
            if sum(map(len, data)) > self.spec.max_step_frames_bytes:
                number, data = 1, data[:cameras]
            todo.append(partial(self.machine.frames, index, first, number, data))
            first += number
        return todo
