"""The shell round the real SinkDelivery, which keeps books of its own and compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    Hello,
    Leased,
    Outcome,
    Producer,
    Refused,
    Welcome,
    decode_from_producer,
    encode,
)
from protocol.orders import Append, Attempt, Finish, Forget, Keep, OpenStream, Order
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import StreamSpec
from tests.protocol.simulated.episodes import Key, Payload
from tests.protocol.simulated.limits import HEARTBEAT_S, LEASE_S

if TYPE_CHECKING:
    from tests.protocol.simulated.disk import Disk
    from tests.protocol.simulated.world import World


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
                # A Hello that came late opens its old session again, which holds nothing any more.
                self._holder = {key: holder for key, holder in self._holder.items() if holder != message.session}
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
