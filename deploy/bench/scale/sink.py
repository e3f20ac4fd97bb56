"""The shell round the real SinkDelivery: one thread that takes messages in bursts, and a disk behind it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from deploy.bench.scale.clock import Clock
from deploy.bench.scale.disk import Disk
from deploy.bench.scale.link import Link, Up
from deploy.bench.scale.settings import SPEC, Settings
from protocol.interval_set import IntervalSet
from protocol.messages import Hello, Leased, Outcome, decode_from_producer, encode
from protocol.orders import OpenStream, Order
from protocol.sink_delivery import DeliveryConfig, SinkDelivery

BURST = 256
TICK_S = 0.5
OPENING_S = 0.5

Call = tuple[str, tuple[Any, ...]]


class Sink:
    """machine: None while it is down. journal: every call of the machine, if not None. watched: indices of which it is
    to be noted when they are leased again."""

    def __init__(self, clock: Clock, disk: Disk, settings: Settings) -> None:
        self.links: dict[bytes, Link] = {}
        self.machine: SinkDelivery | None = None
        self.journal: list[Call] | None = None
        self.counts: Counter[str] = Counter()
        self.watched: dict[int, float | None] = {}
        self.peak_in_flight = 0
        self.config = DeliveryConfig(
            credit_bytes=settings.window_bytes * settings.producers,
            max_producers=settings.producers,
            heartbeat_s=settings.heartbeat_s,
            lease_s=settings.lease_s,
            grace_s=3 * settings.heartbeat_s,
        )
        self._clock, self._disk, self._settings = clock, disk, settings
        self._life = 0
        disk.on_report = self._wake
        self.start()

    def start(self) -> None:
        """A new life, with what the disk has. A stream that is there is open before anyone is heard."""
        self._life += 1
        self._inbox: deque[tuple[bytes, Up]] = deque()
        self._turning = False
        self.machine = SinkDelivery(self.config, self._life, self._clock.now)
        if self._disk.durable:
            self._open(self._life)
        self._tick(self._life)
        for link in self.links.values():
            waits = self._clock.rng.uniform(0.0, self._settings.reconnect_s)
            self._clock.at(self._clock.now + waits, link.find_sink)

    def crash(self) -> None:
        """All but what is durable is gone."""
        self.machine = None
        self._disk.crash()
        for link in self.links.values():
            link.lose_sink()

    def arrive(self, peer: bytes, messages: list[Up]) -> None:
        """They wait until the thread takes them."""
        if self.machine is not None:
            self._inbox.extend((peer, message) for message in messages)
            self._wake()

    # --- the thread -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self.machine is not None and not self._turning:
            self._turning = True
            self._turn(self._life)

    def _turn(self, life: int) -> None:
        """One burst of messages, the disk's reports, and the answers to all of them."""
        if life != self._life or self.machine is None:
            return
        spent = 0.0
        for _ in range(min(BURST, len(self._inbox))):
            peer, (header, sizes) = self._inbox.popleft()
            message = decode_from_producer(header)
            spent += self._settings.hello_s if isinstance(message, Hello) else self._settings.message_s
            self.counts["messages up"] += 1
            self.counts["header bytes up"] += len(header)
            self.counts["hellos"] += isinstance(message, Hello)
            self._obey(self._call("receive", self._clock.now, peer, message, sizes))
        self.peak_in_flight = max(self.peak_in_flight, self.machine.credit.in_flight_bytes)
        for report in self._disk.take_reports():
            for order in report.committed:
                self._call("committed", self._clock.now, SPEC.name, order.attempt.index, Outcome.SUCCESS)
            for session, size in report.consumed.items():
                self._call("consumed", session, size)
        self._send_all(self._clock.now + spent)
        if spent:
            self._clock.at(self._clock.now + spent, lambda: self._turn(life))
        else:
            self._turning = False

    def _tick(self, life: int) -> None:
        if life == self._life and self.machine is not None:
            self._obey(self._call("tick", self._clock.now))
            self._send_all(self._clock.now)
            self._clock.at(self._clock.now + TICK_S, lambda: self._tick(life))

    def _call(self, name: str, *arguments: Any) -> Any:
        if self.journal is not None:
            self.journal.append((name, arguments))
        return getattr(self.machine, name)(*arguments)

    def _obey(self, orders: list[Order]) -> None:
        for order in orders:
            if isinstance(order, OpenStream):
                self._clock.at(self._clock.now + OPENING_S, partial(self._open, self._life))
            else:
                self._disk.put(order)

    def _open(self, life: int) -> None:
        if life != self._life or self.machine is None:
            return
        durable = IntervalSet(sorted(self._disk.durable))
        self._obey(self._call("stream_opened", self._clock.now, SPEC, durable, durable.copy()))
        self._send_all(self._clock.now)

    def _send_all(self, at: float) -> None:
        by_peer: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for peer, message in self._call("take_outbox"):
            header = encode(message)
            by_peer[peer].append(header)
            self.counts["messages down"] += 1
            self.counts["header bytes down"] += len(header)
            if self.watched and isinstance(message, Leased):
                self.watched.update((index, at) for index in message.indices if index in self.watched)
        for peer, headers in by_peer.items():
            self.links[peer].down(headers, at)

    def leases(self) -> Iterator[tuple[int, bytes]]:
        """Each leased index with its holder."""
        assert self.machine is not None
        peers = {session.number: session.peer for session in self.machine.sessions.values()}
        for index, number in self.machine.books[SPEC.name].leases.items():
            yield index, peers[number]
