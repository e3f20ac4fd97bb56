"""Which queries go to the model together, and when: a queue without socket, thread or clock.

Queries of one batch share the op and the models. A batch is fired when it is `full`; when its first query has waited
long enough (`wait_expired`); when waiting on would cost a query its deadline (`deadline`); or when nobody else is about
to ask (`idle`). Deadlines are on the caller's clock, from the arrival on, and hold in the model too: who asked hears
`expired` when the time is over, whatever the model does.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, count, islice

from inference.habits import Habits
from protocol.namo.queries import PRIORITIES, Failed, Query

# op, object model, goal model; None where the op needs none.
Key = tuple[str, str | None, str | None]
ItemKey = tuple[bytes, int]

_NEWEST = 0.3
_DEVIATIONS = 3.0
_FIRST_GUESS_S = 0.05
_HEAP_SLACK = 64


@dataclass(frozen=True)
class BatchLimits:
    """max_batch, max_items: queries. max_wait_s: how long the first of a batch waits for others, at most.

    max_items, max_bytes: of what waits; more is answered `busy`. One client may take half of the items, so that one
    which asks without end leaves room for the others.
    """

    max_batch: int = 32
    max_wait_s: float = 0.005
    max_items: int = 1024
    max_bytes: int = 64 << 20


class Fired(StrEnum):
    """Why a batch did not wait longer."""

    FULL = "full"
    WAIT_EXPIRED = "wait_expired"
    IDLE = "idle"
    DEADLINE = "deadline"


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One query in the queue or in the model. size: its bytes on the wire. arrived, deadline: on the caller's clock."""

    peer: bytes
    query: Query
    size: int
    arrived: float
    deadline: float

    @property
    def key(self) -> ItemKey:
        """No other query that is under way has it."""
        return self.peer, self.query.id


@dataclass(frozen=True, eq=False)
class Batch:
    """What the model gets next."""

    key: Key
    items: tuple[Item, ...]
    fired: Fired


def batch_key(query: Query) -> Key:
    """Queries with the same one can share a batch."""
    object_model = None if query.op == "sample_goals" else query.object_model
    goal_model = None if query.op == "rank_objects" else query.goal_model
    return query.op, object_model, goal_model


class _Group:
    """Waiting queries of one key, by priority, in the order of their arrival."""

    def __init__(self) -> None:
        self.lanes: tuple[dict[ItemKey, Item], ...] = tuple({} for _ in range(PRIORITIES))

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(lane.values() for lane in self.lanes)

    def first_arrival(self) -> float:
        return min(next(iter(lane.values())).arrived for lane in self.lanes if lane)

    def rank(self) -> tuple[int, float]:
        """The group with the smallest goes first: by its best priority, then by who has waited longest there."""
        best = next(number for number, lane in enumerate(self.lanes) if lane)
        return best, next(iter(self.lanes[best].values())).arrived


class Batcher:
    """Not safe for several threads; `now` must not decrease."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self.waiting_items = 0
        self.waiting_bytes = 0
        self._groups: dict[Key, _Group] = {}
        self._waiting: dict[ItemKey, Key] = {}
        self._waiting_of: dict[bytes, int] = {}  # how many, by client
        self._running: dict[ItemKey, Item] = {}
        self._habits = Habits(2 * limits.max_wait_s)
        self._pace: dict[Key, tuple[float, float, float]] = {}  # of batches: mean seconds, their deviation, mean items
        self._item_s = _FIRST_GUESS_S / limits.max_batch
        self._deadlines: list[tuple[float, int, ItemKey, Item]] = []
        self._numbers = count()

    # --- queries come and go ----------------------------------------------------------------------------------

    def add(self, now: float, peer: bytes, query: Query, size: int) -> Failed | None:
        """Queue a query; what to answer if it cannot be."""
        number = peer, query.id
        if number in self._waiting or number in self._running:
            return Failed(id=query.id, code="bad_query", why=f"number {query.id} is under way; each is used once")
        own = self._waiting_of.get(peer, 0)
        full = self.waiting_items >= self.limits.max_items or self.waiting_bytes + size > self.limits.max_bytes
        if full or 2 * own >= self.limits.max_items > 1:
            why = f"{self.waiting_items} queries of {self.waiting_bytes} bytes wait already, {own} of them yours"
            return Failed(id=query.id, code="busy", why=why, retry_after_s=self.drains_s)
        item = Item(peer, query, size, now, now + query.deadline_s)
        key = batch_key(query)
        self._groups.setdefault(key, _Group()).lanes[query.priority][number] = item
        self._waiting[number] = key
        self._waiting_of[peer] = own + 1
        self.waiting_items += 1
        self.waiting_bytes += size
        heapq.heappush(self._deadlines, (item.deadline, next(self._numbers), number, item))
        self._tidy()
        self._habits.asked(now, peer)
        return None

    def cancel(self, now: float, peer: bytes, number: int) -> bool:
        """Nobody waits for it any more. True if it was under way; in the model it goes on, but is not answered."""
        item = self._remove((peer, number))
        if item is not None:
            self._habits.answered(now, peer)
        return item is not None

    def forget(self, peer: bytes) -> int:
        """A client is gone; returns how many of its queries were under way."""
        gone = [key for key in (*self._waiting, *self._running) if key[0] == peer]
        for key in gone:
            self._remove(key)
        self._habits.forget(peer)
        return len(gone)

    def expire(self, now: float) -> list[Item]:
        """Those whose time is over, waiting or in the model; each is returned once."""
        over = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, key, item = heapq.heappop(self._deadlines)
            if self._is_live(key, item):
                self._remove(key)
                self._habits.answered(now, item.peer)
                over.append(item)
        return over

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has to be called at the latest."""
        return self._deadlines[0][0] if self._deadlines else None

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is in the model."""
        return not self._waiting and not self._running

    @property
    def drains_s(self) -> float:
        """How long what waits now will take, as far as one can tell [s]."""
        return max(self.waiting_items, 1) * self._item_s

    # --- the model asks ---------------------------------------------------------------------------------------

    def take(self, now: float) -> Batch | None:
        """The next batch, if one should be fired now."""
        ripe = [(group.rank(), key, fired) for key, group in self._groups.items() if (fired := self._ripe(now, key))]
        if not ripe:
            return None
        _, key, fired = min(ripe)
        chosen = self._choose(now, key)
        for item in chosen:
            self._remove(item.key)
            self._running[item.key] = item
        return Batch(key, tuple(chosen), fired)

    def wakes_at(self, now: float) -> float | None:
        """When `take` would have a batch though nothing else happens; None if nothing waits."""
        return min((self._fires_at(now, key)[0] for key in self._groups), default=None)

    def finish(self, now: float, batch: Batch, seconds: float) -> list[bool]:
        """The model has done it, in so many seconds; which of its items are still wanted."""
        wanted = [self._running.get(item.key) is item for item in batch.items]
        for item, is_wanted in zip(batch.items, wanted, strict=True):
            if is_wanted:
                del self._running[item.key]
                self._habits.answered(now, item.peer)
        mean, deviation, items = self._pace.get(batch.key, (seconds, 0.0, len(batch.items)))
        deviation += _NEWEST * (abs(seconds - mean) - deviation)
        items += _NEWEST * (len(batch.items) - items)
        self._pace[batch.key] = mean + _NEWEST * (seconds - mean), deviation, items
        self._item_s += _NEWEST * (seconds / len(batch.items) - self._item_s)
        return wanted

    def _ripe(self, now: float, key: Key) -> Fired | None:
        at, fired = self._fires_at(now, key)
        return fired if at <= now else None

    def _fires_at(self, now: float, key: Key) -> tuple[float, Fired]:
        group = self._groups[key]
        if len(group) >= self.limits.max_batch:
            return now, Fired.FULL
        waits_until = group.first_arrival() + self.limits.max_wait_s
        last_moment = min(item.deadline for item in group) - self._takes_s(key, len(group))
        awaited = self._habits.awaited_until(now, waits_until)
        return min((waits_until, Fired.WAIT_EXPIRED), (last_moment, Fired.DEADLINE), (awaited, Fired.IDLE))

    def _choose(self, now: float, key: Key) -> list[Item]:
        """Who would be answered too late only takes the place of others, and is left to expire.

        If a batch of all comes too late for everybody, a smaller one may not; and somebody is tried in any case:
        how long a batch takes may have changed.
        """
        group = self._groups[key]
        size = min(len(group), self.limits.max_batch)
        while size:
            ends = now + self._takes_s(key, size)
            chosen = list(islice((item for item in group if item.deadline >= ends), size))
            if chosen:
                return chosen
            size //= 2
        return [max(group, key=lambda item: item.deadline)]

    def _takes_s(self, key: Key, size: int) -> float:
        """A batch of this size is seldom longer: as TCP sets its time-outs. By the mean, half of them would be."""
        mean, deviation, items = self._pace.get(key, (0.0, 0.0, 1.0))
        return (mean + _DEVIATIONS * deviation) * size / items

    # --- bookkeeping ------------------------------------------------------------------------------------------

    def _remove(self, number: ItemKey) -> Item | None:
        key = self._waiting.pop(number, None)
        if key is None:
            return self._running.pop(number, None)
        group = self._groups[key]
        item = next(lane.pop(number) for lane in group.lanes if number in lane)
        if not len(group):
            del self._groups[key]
        self._waiting_of[item.peer] -= 1
        if not self._waiting_of[item.peer]:
            del self._waiting_of[item.peer]
        self.waiting_items -= 1
        self.waiting_bytes -= item.size
        return item

    def _is_live(self, number: ItemKey, item: Item) -> bool:
        return self._find(number) is item

    def _find(self, number: ItemKey) -> Item | None:
        key = self._waiting.get(number)
        lanes: Iterable[dict[ItemKey, Item]] = () if key is None else self._groups[key].lanes
        return next((lane[number] for lane in lanes if number in lane), self._running.get(number))

    def _tidy(self) -> None:
        """Deadlines of those that were answered or cancelled: they must not pile up until they are due."""
        live = len(self._waiting) + len(self._running)
        if len(self._deadlines) > 2 * live + _HEAP_SLACK:
            self._deadlines = [entry for entry in self._deadlines if self._is_live(entry[2], entry[3])]
            heapq.heapify(self._deadlines)
