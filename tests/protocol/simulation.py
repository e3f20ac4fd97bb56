"""A world without sockets, files or clock, in which everything goes wrong: one sink, its disk, producers, lossy links.

Theory of operation. Time is a float, and everything that happens is an entry of one heap; all chance comes from one
seed. The delivery machines are the real ones, and every message is really encoded and decoded. The disk is the oracle:
it knows for each index the one and only right content, counts commits and bytes, and asserts. So a test only has to
cause trouble (`Link.cut`, `Worker.hang`, `Sink.crash`, ...) and, at the end, to ask for `World.settle`.

What a link may do: like ZeroMQ it keeps the order of a connection and never damages a message. But a cut connection
loses any of its messages in flight, others of them arrive much later, and a message may arrive twice.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from msgspec import structs

from protocol.interval_set import IntervalSet
from protocol.messages import (
    PROTOCOL_VERSION,
    Abandon,
    Begin,
    Bye,
    Committed,
    Credit,
    Done,
    End,
    FromSink,
    Goal,
    Hello,
    Leased,
    Outcome,
    Producer,
    Refused,
    Welcome,
    decode_from_producer,
    decode_from_sink,
    encode,
)
from protocol.orders import Append, Attempt, Finish, Forget, Keep, OpenStream, Order
from protocol.producer_delivery import ProducerDelivery
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import Camera, Column, StreamSpec

Payload = tuple[bytes, ...]
Key = tuple[str, int]  # stream, index

HEARTBEAT_S = 1.0
LEASE_S = 6.0
SETTLE_S = 400.0
OUTCOMES = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.VOID, Outcome.FAILURE, Outcome.SUCCESS)


# --- what an episode is: a function of its index -----------------------------------------------------------------


def outcome_of(index: int) -> Outcome:
    """How an index ends."""
    return OUTCOMES[(index + index // 7) % len(OUTCOMES)]


def steps_of(spec: StreamSpec, index: int) -> int:
    """T of an index."""
    return 0 if outcome_of(index) is Outcome.VOID else 1 + index % spec.max_steps


def frame(index: int, step: int, camera: int, attempt: int) -> bytes:
    """A frame that says where it belongs and in which attempt it was made; its size depends on its place only."""
    size = 20_000 + 7_919 * (5 * index + 3 * step + camera) % 70_000
    return f"{index} {step} {camera} {attempt} ".encode().ljust(size, b".")


def document(index: int) -> bytes:
    """A text that a few episodes share."""
    return f"document {index % 3} ".encode().ljust(30_000 if index % 3 else 180_000, b"#")


def columns(spec: StreamSpec, index: int) -> Payload:
    """One buffer per column."""
    steps = steps_of(spec, index)
    return tuple(f"{index} {c.name} ".encode().ljust(steps * c.row_bytes, b"-") for c in spec.columns if steps)


def attributes(attempt: int) -> bytes:
    """The attributes name the attempt too, so that parts of two attempts cannot be mistaken for one episode."""
    return json.dumps({"attempt": attempt}).encode()


# --- time --------------------------------------------------------------------------------------------------------


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


# --- the link ----------------------------------------------------------------------------------------------------


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


# --- the disk: the oracle ----------------------------------------------------------------------------------------


class Disk:
    """The writer and what it has made durable. One order at a time, in order; results reach the sink a little later."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.episodes: dict[Key, Outcome] = {}  # durable
        self.authors: dict[Key, str] = {}
        self.documents: set[tuple[str, str]] = set()  # durable; stream, sha256
        self.reject_next = 0
        self.stalled_until = 0.0
        self.life = 0
        self.commits = self.rejections = 0
        self._reset()

    def _reset(self) -> None:
        self.held_bytes = 0
        self._queue: list[tuple[Order, Payload]] = []
        self._busy = False
        self._frames: dict[int, list[bytes]] = {}
        self._bad: set[int] = set()
        self._kept: dict[tuple[str, int, str], bytes] = {}
        self._last_result = 0.0

    def crash(self) -> None:
        """Everything goes but what is durable."""
        self.life += 1
        self._reset()

    def heal(self) -> None:
        """No further trouble from here."""
        self.reject_next, self.stalled_until = 0, 0.0

    def indices(self, stream: str, *outcomes: Outcome) -> list[int]:
        """What is durable."""
        return sorted(i for (s, i), o in self.episodes.items() if s == stream and (not outcomes or o in outcomes))

    def put(self, order: Order, payload: Payload) -> None:
        """Queue an order of the sink."""
        self.held_bytes += sum(map(len, payload))
        self._queue.append((order, payload))
        self._next()

    def _next(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        rng, life = self.world.rng, self.life
        slowness = (0.0, 0.1, 2.0) if isinstance(self._queue[0][0], Finish) else (0.0, 0.01, 0.1)
        time = max(self.world.now, self.stalled_until) + rng.choice(slowness) * rng.random()
        self.world.at(time, lambda: self._work() if life == self.life else None)

    def _work(self) -> None:
        self._busy = False
        if self.world.now < self.stalled_until:
            self._next()
            return
        order, payload = self._queue.pop(0)
        match order:
            case Append():
                self._append(order, payload)
            case Finish():
                self._finish(order, payload)
            case Forget():
                self._frames.pop(order.attempt.number, None)
            case Keep():
                assert hashlib.sha256(payload[0]).hexdigest() == order.sha256
                self._kept[order.stream, order.session, order.sha256] = payload[0]
                self._consumed(order.session, order.size)
        self._next()

    def _append(self, order: Append, payload: Payload) -> None:
        number = order.attempt.number
        if number not in self._bad:
            frames = self._frames.setdefault(number, [])
            assert order.first * (len(payload) // order.count) == len(frames), f"{order} after {len(frames)} frames"
            frames.extend(payload)
            if self.reject_next:
                self._reject(order.attempt)
        self._consumed(order.attempt.session, order.size)

    def _finish(self, order: Finish, payload: Payload) -> None:
        attempt = order.attempt
        if attempt.number in self._bad or self.reject_next:
            # A rejection that the sink may have heard already: it must not matter.
            self._reject(attempt)
            self._consumed(attempt.session, order.size)
            return
        self._check_content(order, payload)
        key = (attempt.stream, attempt.index)
        assert key not in self.episodes, f"{key} is committed twice"
        self.episodes[key], self.authors[key] = order.end.outcome, attempt.producer
        self.documents |= {(attempt.stream, sha256) for sha256 in order.end.documents}
        self.commits += 1
        self._consumed(attempt.session, order.size)
        self._result(lambda sink: sink.committed(attempt, order.end.outcome))
        self._check_limits(attempt.stream)

    def _reject(self, attempt: Attempt) -> None:
        self.reject_next = max(self.reject_next - 1, 0)
        self.rejections += 1
        self._bad.add(attempt.number)
        self._result(lambda sink: sink.rejected(attempt))

    def _consumed(self, session: int, size: int) -> None:
        self._result(lambda sink: sink.consumed(session, size))

    def _result(self, tell: Callable[[Sink], None]) -> None:
        world, life = self.world, self.life
        delay = world.rng.choice((0.0, 0.0, 0.2, 1.0)) * world.rng.random()
        self._last_result = max(self._last_result, world.now + delay)
        world.at(self._last_result, lambda: tell(world.sink) if life == self.life else None)

    def _check_content(self, order: Finish, payload: Payload) -> None:
        attempt, end = order.attempt, order.end
        spec = self.world.sink.specs[attempt.stream]
        made_in = json.loads(payload[0])["attempt"]
        steps, cameras = steps_of(spec, attempt.index), len(spec.cameras)
        expected = [frame(attempt.index, s, c, made_in) for s in range(steps) for c in range(cameras)]
        assert self._frames.pop(attempt.number, []) == expected, f"{attempt}: frames of other steps or attempts"
        assert payload[1:] == columns(spec, attempt.index)
        assert (end.index, end.outcome, end.steps) == (attempt.index, outcome_of(attempt.index), steps)
        for sha256 in end.documents:
            kept = (attempt.stream, attempt.session, sha256) in self._kept
            assert kept or (attempt.stream, sha256) in self.documents, f"{attempt}: a document did not come before End"

    def _check_limits(self, stream: str) -> None:
        for spec, goal in self.world.goals:
            if spec.name == stream and goal.successes is not None:
                assert len(self.indices(stream, Outcome.SUCCESS)) <= goal.successes, f"more successes than {goal}"

    def check_goals(self) -> None:
        """What must be there at the end: neither less nor more."""
        for task in self.world.setup.tasks:
            expected: set[int] = set()
            for goal in task.goals:
                if goal.successes is None:
                    assert goal.end is not None
                    expected |= set(range(goal.start, goal.end))
                else:
                    found = 0
                    for index in count(goal.start):
                        if index == goal.end or found == goal.successes:
                            break
                        expected.add(index)
                        found += outcome_of(index) is Outcome.SUCCESS
            assert self.indices(task.spec.name) == sorted(expected)


# --- the sink ----------------------------------------------------------------------------------------------------


class Sink:
    """The shell round SinkDelivery, and a second book, kept from the messages alone, of leases and credit."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.specs = {task.spec.name: task.spec for task in world.setup.tasks}
        window = max(spec.min_window_bytes for spec in self.specs.values())
        self.config = DeliveryConfig(
            credit_bytes=window * world.setup.windows + 1000,
            max_producers=1000,
            heartbeat_s=HEARTBEAT_S,
            lease_s=LEASE_S,
            grace_s=2.0,
        )
        self.machine: SinkDelivery | None = None
        self.life = 0
        self.refusals: list[str] = []
        self.welcomes = 0

    def start(self) -> None:
        """A new life, with what the disk has."""
        self.life += 1
        self.machine = SinkDelivery(self.config, self.life, self.world.now)
        self._stream_of: dict[int, str] = {}
        self._holder: dict[Key, int] = {}  # leased, as the messages say
        self._attempt: dict[Key, int] = {}  # the one attempt that may have parts at the disk
        self._finishing: set[Key] = set()
        self._unspent: dict[int, int] = {}
        self._tick(self.life)

    def crash(self, down_s: float) -> None:
        """All sessions, leases and orders vanish; after a while there is a new sink."""
        if self.machine is None:
            return
        self.machine = None
        self.disk.crash()
        life = self.life
        self.world.after(down_s, lambda: self.start() if self.machine is None and life == self.life else None)

    def heal(self) -> None:
        """No further trouble from here. A sink that was to stop is replaced."""
        if self.machine is None:
            self.start()
        elif self.machine.draining:
            self.disk.crash()
            self.start()

    @property
    def disk(self) -> Disk:
        """The disk."""
        return self.world.disk

    def receive(self, peer: bytes, header: bytes, payload: Payload) -> None:
        """A message has arrived."""
        if self.machine is None:
            return
        message = decode_from_producer(header)
        session = self.machine.sessions.get(peer)
        if isinstance(message, Hello):
            self._stream_of[message.session] = message.spec.name
        elif session is not None and (session.number, session.next_in) == (message.session, message.seq):
            self._unspent[message.session] -= sum(map(len, payload))
            key = (session.stream, getattr(message, "index", -1))
            if isinstance(message, Abandon) and self._holder.get(key) == session.number:
                del self._holder[key]
        orders = self.machine.receive(self.world.now, peer, message, tuple(map(len, payload)))
        self._obey(orders, payload)

    def committed(self, attempt: Attempt, outcome: Outcome) -> None:
        """The disk says so."""
        key = (attempt.stream, attempt.index)
        self._finishing.remove(key)
        del self._attempt[key]
        if self.machine:
            self.machine.committed(self.world.now, *key, outcome)
            self._obey([], ())

    def rejected(self, attempt: Attempt) -> None:
        """The disk says so."""
        key = (attempt.stream, attempt.index)
        if self._attempt.get(key) == attempt.number:
            del self._attempt[key]
            self._finishing.discard(key)
        if self.machine:
            self.machine.rejected(self.world.now, attempt, "bad_frame", "the disk rejects it")
            self._obey([], ())

    def consumed(self, session: int, size: int) -> None:
        """The disk says so."""
        self.disk.held_bytes -= size
        if self.machine:
            self.machine.consumed(session, size)
            self._obey([], ())

    def meet_impostor(self) -> None:
        """Someone ends an episode that is leased to another, or to nobody."""
        if self.machine is None:
            return
        rng, peer, session = self.world.rng, b"impostor", self.world.rng.getrandbits(62)
        spec, goal = rng.choice(self.world.goals)
        void = End(
            session=session, seq=3, index=0, outcome=Outcome.VOID, steps=0, seed=0, began_ns=0, ended_ns=0, checksum=0
        )
        index = rng.randint(0, 8)
        hello = Hello(session=session, protocol=PROTOCOL_VERSION, producer=Producer("impostor"), spec=spec, goal=goal)
        self.receive(peer, encode(hello), ())
        self.receive(peer, encode(Begin(session=session, seq=1, index=index)), ())
        self.receive(peer, encode(Abandon(session=session, seq=2, index=index)), ())
        self.receive(peer, encode(structs.replace(void, index=index)), (b"{}",))
        self.receive(peer, encode(Bye(session=session, seq=4)), ())

    def drain(self) -> None:
        """The sink is about to stop."""
        if self.machine:
            self.machine.drain()
            self._obey([], ())

    def check_idle(self) -> None:
        """Nobody is left: so is no lease, no credit, no order."""
        assert self.machine is not None
        assert not self.machine.sessions
        assert self.machine.committing == 0
        assert self.machine.credit.free_bytes == self.config.credit_bytes
        assert self.disk.held_bytes == 0
        assert not any(book.leases for book in self.machine.books.values())

    def state(self) -> str:
        """For the message of a failed test."""
        books = {s: (b.leases, b.committing) for s, b in self.machine.books.items()} if self.machine else {}
        return f"sink: leases and commits {books}, refusals {self.refusals[-3:]}, committed {self.disk.episodes}"

    def _tick(self, life: int) -> None:
        if self.machine is not None and life == self.life:
            self._obey(self.machine.tick(self.world.now), ())
            self.world.after(0.5, lambda: self._tick(life))

    def _obey(self, orders: list[Order], payload: Payload) -> None:
        takers = [order for order in orders if isinstance(order, Append | Finish | Keep)]
        assert len(takers) <= 1
        for order in orders:
            if isinstance(order, OpenStream):
                self._open(order.spec)
                continue
            if isinstance(order, Append | Finish):
                assert order.size == sum(map(len, payload))
                key = (order.attempt.stream, order.attempt.index)
                other = self._attempt.setdefault(key, order.attempt.number)
                assert other == order.attempt.number, f"{key}: attempt {other} goes on, but {order} came"
                if isinstance(order, Finish):
                    self._finishing.add(key)
            if isinstance(order, Forget):
                key = (order.attempt.stream, order.attempt.index)
                if self._attempt.get(key) == order.attempt.number:
                    del self._attempt[key]
            self.disk.put(order, payload if order in takers else ())
        self._flush()
        self._check_books()

    def _open(self, spec: StreamSpec) -> None:
        life = self.life

        def opened() -> None:
            if self.machine is None or life != self.life:
                return
            indices, successes = self.disk.indices(spec.name), self.disk.indices(spec.name, Outcome.SUCCESS)
            self._obey(
                self.machine.stream_opened(self.world.now, spec, IntervalSet(indices), IntervalSet(successes)), ()
            )

        self.world.after(self.world.rng.choice((0.0, 0.5, 3.0)), opened)

    def _flush(self) -> None:
        assert self.machine is not None
        for peer, message in self.machine.take_outbox():
            self._watch(message)
            if peer in self.world.links:
                self.world.links[peer].down(encode(message))

    def _watch(self, message: FromSink) -> None:
        stream = self._stream_of.get(message.session, "")
        match message:
            case Welcome():
                self.welcomes += 1
                self._unspent[message.session] = message.credit
                for index in message.leased:
                    self._lease((stream, index), message.session)
            case Credit():
                self._unspent[message.session] += message.bytes
            case Leased():
                for index in message.indices:
                    self._lease((stream, index), message.session)
            case Committed():
                assert (stream, message.index) in self.disk.episodes, f"{message} but it is not on disk"
                self._holder.pop((stream, message.index), None)
            case Refused():
                self.refusals.append(message.code)
                if message.index is not None and self._holder.get((stream, message.index)) == message.session:
                    del self._holder[stream, message.index]
            case Done():
                pass

    def _lease(self, key: Key, session: int) -> None:
        assert key not in self.disk.episodes, f"{key} is leased though it is committed"
        assert key not in self._finishing, f"{key} is leased though it is being committed"
        holder = self._holder.get(key)
        assert holder is None or holder not in self._open_sessions(), f"{key} is leased to two sessions"
        self._holder[key] = session

    def _open_sessions(self) -> set[int]:
        assert self.machine is not None
        return {session.number for session in self.machine.sessions.values()}

    def _check_books(self) -> None:
        assert self.machine is not None
        assert self.disk.held_bytes <= self.config.credit_bytes
        assert self.disk.held_bytes == self.machine.credit.in_flight_bytes
        unspent = [self._unspent[number] for number in self._open_sessions()]
        assert all(amount >= 0 for amount in unspent)
        assert sum(unspent) + self.disk.held_bytes <= self.config.credit_bytes


# --- the producers -----------------------------------------------------------------------------------------------


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
                    assert event.code == "bad_frame", event
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


# --- worlds to begin with ----------------------------------------------------------------------------------------

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
