"""The writer and its disk: a bandwidth, a time for each commit, and the book of what is durable."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from deploy.bench.scale.clock import Action, Clock
from protocol.orders import Append, Attempt, Finish, Order

# As the sink's writer does it.
MAX_GROUP = 64
MAX_GROUP_DELAY_S = 0.05
TELL_BYTES = 2 << 20


@dataclass
class Report:
    """What became durable, and the payload that left memory, by session."""

    committed: list[Finish] = field(default_factory=list)
    consumed: dict[int, int] = field(default_factory=dict)


class Disk:
    """Takes orders in order. `take_reports` is what the sink hears of it; `durable` outlives a crash."""

    def __init__(self, clock: Clock, bytes_per_s: float, commit_s: float) -> None:
        self.durable: dict[int, tuple[str, float]] = {}  # index → producer, time
        self.doubled = 0
        self.on_report: Action = lambda: None
        self._clock, self._bytes_per_s, self._commit_s = clock, bytes_per_s, commit_s
        self._life = 0
        self.crash()

    def crash(self) -> None:
        """Everything goes but what is durable."""
        self._life += 1
        self._orders: deque[tuple[Order, float]] = deque()
        self._group: list[tuple[Finish, float]] = []
        self._reports: list[Report] = []
        self._busy = False

    def put(self, order: Order) -> None:
        """Queue an order."""
        if isinstance(order, Append | Finish):
            self._orders.append((order, self._clock.now))
            if not self._busy:
                self._work()

    def take_reports(self) -> list[Report]:
        """Since the last call."""
        taken, self._reports = self._reports, []
        return taken

    def _work(self) -> None:
        """Write some orders, commit if it is time, and tell when that will be done."""
        report, size = Report(), 0
        while self._orders and size < TELL_BYTES and len(self._group) < MAX_GROUP:
            order, arrived = self._orders.popleft()
            if isinstance(order, Finish):
                self._group.append((order, arrived))
            elif isinstance(order, Append):
                _count(report, order.attempt, order.size)
            size += order.size if isinstance(order, Append | Finish) else 0
        takes = size / self._bytes_per_s
        waited = self._clock.now + takes - self._group[0][1] if self._group else 0.0
        if self._group and (len(self._group) >= MAX_GROUP or waited > MAX_GROUP_DELAY_S or not self._orders):
            takes += self._commit_s
            report.committed = [order for order, _ in self._group]
            self._group = []
        self._busy, life = True, self._life
        self._clock.at(self._clock.now + takes, lambda: self._done(report) if life == self._life else None)

    def _done(self, report: Report) -> None:
        for order in report.committed:
            index = order.attempt.index
            self.doubled += index in self.durable
            self.durable[index] = (order.attempt.producer, self._clock.now)
            _count(report, order.attempt, order.size)
        self._reports.append(report)
        self._busy = False
        if self._orders or self._group:
            self._work()
        self.on_report()


def _count(report: Report, attempt: Attempt, size: int) -> None:
    report.consumed[attempt.session] = report.consumed.get(attempt.session, 0) + size
