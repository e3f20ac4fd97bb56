"""The batcher against a plain list that is its oracle."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference.batcher import Batch, Batcher, BatchLimits, Fired, batch_key
from inference.habits import Habits
from tests.inference.scenes import query

LIMITS = BatchLimits(max_batch=4, max_wait_s=1.0, max_items=10, max_bytes=1000)
OPS = ("rank_objects", "sample_goals", "rank_and_sample")
PEERS = (b"a", b"b", b"c")


def add(batcher: Batcher, now: float, peer: bytes = b"a", number: int = 0, **changes: object) -> None:
    assert batcher.add(now, peer, query(**{"id": number, **changes}), 10) is None  # type: ignore[arg-type]


def numbers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [item.query.id for item in batch.items]


def test_nobody_is_waited_for_who_is_not_expected() -> None:
    batcher = Batcher(LIMITS)
    add(batcher, 5.0)
    batch = batcher.take(5.0)
    assert numbers(batch) == [0]
    assert batch is not None
    assert batch.fired is Fired.IDLE


def test_who_always_asks_again_at_once_is_waited_for_but_not_longer_than_the_limit() -> None:
    batcher, now, number = Batcher(LIMITS), 0.0, 0
    for _ in range(5):  # two clients that think for 0.1 s
        for peer in (b"a", b"b"):
            number += 1
            add(batcher, now, peer, number)
        batch = batcher.take(now + 1)
        assert batch is not None
        assert len(batch.items) == 2
        batcher.finish(now, batch, 0.01)
        now += 0.1
    add(batcher, now, b"a", 100)
    assert batcher.take(now) is None
    wakes_at = batcher.wakes_at(now)
    assert wakes_at is not None
    assert now < wakes_at < now + 0.2  # b is late, and given up before the limit of 1 s
    batch = batcher.take(wakes_at)
    assert numbers(batch) == [100]
    assert batch is not None
    assert batch.fired is Fired.IDLE


def test_a_full_batch_goes_at_once_and_the_rest_stays() -> None:
    batcher = Batcher(LIMITS)
    for number in range(5):
        add(batcher, 0.0, number=number)
    batch = batcher.take(0.0)
    assert batch is not None
    assert (numbers(batch), batch.fired) == ([0, 1, 2, 3], Fired.FULL)
    assert batcher.waiting_items == 1


def test_priorities_go_first_and_share_batches_with_their_like_only() -> None:
    batcher = Batcher(LIMITS)
    add(batcher, 0.0, number=1, priority=2, op="rank_objects")
    add(batcher, 0.1, number=2, priority=2)
    add(batcher, 0.2, number=3, priority=0)
    batch = batcher.take(9.0)
    assert numbers(batch) == [3, 2]
    batch = batcher.take(9.0)
    assert numbers(batch) == [1]


def test_a_deadline_fires_the_batch_before_it_is_too_late() -> None:
    batcher = Batcher(LIMITS)
    habits = batcher._habits
    habits.asked(0.0, b"z")
    habits.answered(0.0, b"z")
    habits.asked(0.5, b"z")
    habits.answered(0.5, b"z")  # z is expected at 1.0
    add(batcher, 0.5, number=1)
    batch = batcher.take(3.0)
    assert batch is not None
    batcher.finish(3.0, batch, 0.4)  # batches take 0.4 s
    habits.asked(3.0, b"z")
    habits.answered(3.0, b"z")
    add(batcher, 3.1, b"b", 2, deadline_s=0.6)
    assert batcher.take(3.1) is None
    assert batcher.wakes_at(3.1) == pytest.approx(3.3)
    batch = batcher.take(3.31)
    assert batch is not None
    assert batch.fired is Fired.DEADLINE


def test_who_would_be_too_late_leaves_the_place_to_others() -> None:
    batcher = Batcher(LIMITS)
    add(batcher, 0.0, number=1)
    batch = batcher.take(0.0)
    assert batch is not None
    batcher.finish(5.0, batch, 2.0)  # 2 s for one
    add(batcher, 5.0, number=2, deadline_s=3.5)
    add(batcher, 5.0, number=3, deadline_s=20.0)
    assert numbers(batcher.take(5.0)) == [3]  # two of them would take 4 s
    assert batcher.waiting_items == 1


def test_a_smaller_batch_is_taken_when_a_large_one_would_be_too_late_for_all() -> None:
    batcher = Batcher(LIMITS)
    for number in range(4):
        add(batcher, 0.0, number=number)
    batch = batcher.take(0.0)
    assert batch is not None
    batcher.finish(4.0, batch, 4.0)  # 1 s for each
    for number in range(4, 8):
        add(batcher, 4.0, number=number, deadline_s=2.5)
    batch = batcher.take(4.0)
    assert numbers(batch) == [4, 5]
    assert batch is not None
    batcher.finish(4.1, batch, 2.0)
    add(batcher, 5.9, number=8, deadline_s=0.7)
    assert numbers(batcher.take(6.3)) == [8]  # nobody can be served in time: who has most of it left is tried


def test_expiry_does_not_wait_for_the_model() -> None:
    batcher = Batcher(LIMITS)
    add(batcher, 0.0, number=1, deadline_s=2.0)
    batch = batcher.take(0.0)
    add(batcher, 0.5, number=2, deadline_s=1.0)
    assert batcher.next_deadline == 1.5
    assert [item.query.id for item in batcher.expire(1.5)] == [2]
    assert [item.query.id for item in batcher.expire(2.0)] == [1]
    assert batch is not None
    assert batcher.finish(9.0, batch, 9.0) == [False]
    assert batcher.empty


def test_full_is_busy_by_number_and_by_bytes_and_says_when_to_come_again() -> None:
    batcher = Batcher(LIMITS)
    for number in range(5):
        add(batcher, 0.0, b"a", number)
    refused = batcher.add(0.0, b"a", query(id=9), 10)
    assert refused is not None
    assert (refused.code, refused.why) == ("busy", "5 queries of 50 bytes wait already, 5 of them yours")
    for number in range(5):
        add(batcher, 0.0, b"b", number)
    refused = batcher.add(0.0, b"c", query(id=1), 10)
    assert refused is not None
    assert refused.code == "busy"
    assert 0 < refused.retry_after_s < 10
    large = Batcher(LIMITS)
    assert large.add(0.0, b"a", query(id=1), 990) is None
    refused = large.add(0.0, b"a", query(id=2), 11)
    assert refused is not None
    assert refused.code == "busy"


def test_a_number_that_is_under_way_is_not_taken_twice() -> None:
    batcher = Batcher(LIMITS)
    add(batcher, 0.0, number=1)
    again = batcher.add(0.0, b"a", query(id=1), 10)
    assert again is not None
    assert again.code == "bad_query"
    assert batcher.add(0.0, b"b", query(id=1), 10) is None


def test_cancelled_queries_leave_nothing_behind() -> None:
    batcher = Batcher(LIMITS)
    for number in range(5000):
        add(batcher, 0.0, number=number, deadline_s=600.0)
        assert batcher.cancel(0.0, b"a", number)
    assert batcher.empty
    assert len(batcher._deadlines) < 100


def test_habits_of_many_clients_are_bounded() -> None:
    habits = Habits(1.0)
    for number in range(20_000):
        peer = number.to_bytes(4, "big")
        habits.asked(0.0, peer)
        habits.answered(0.0, peer)
    assert len(habits._clients) <= 4096
    assert len(habits._soon) <= 4096


@dataclass
class Asked:
    peer: bytes
    number: int
    key: tuple[str, str | None, str | None]
    priority: int
    arrived: float
    deadline: float
    running: bool = False


class BatcherMachine(RuleBasedStateMachine):
    """Every query ends in exactly one way, bounds hold, batches are of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(LIMITS)
        self.now = 0.0
        self.numbers = 0
        self.asked: dict[tuple[bytes, int], Asked] = {}
        self.batch: Batch | None = None

    @initialize(start=st.floats(0, 1e6))
    def begin(self, start: float) -> None:
        self.now = start

    @rule(
        peer=st.sampled_from(PEERS), op=st.sampled_from(OPS), priority=st.integers(0, 3),
        deadline_s=st.sampled_from([0.1, 0.9, 1.5, 4.0, 60.0]), size=st.integers(1, 300),
        model=st.sampled_from(["one", "two"]),
    )  # fmt: skip
    def ask(self, peer: bytes, op: str, priority: int, deadline_s: float, size: int, model: str) -> None:
        self.numbers += 1
        asked = query(id=self.numbers, op=op, priority=priority, deadline_s=deadline_s, goal_model=model)
        waiting = [one for one in self.asked.values() if not one.running]
        refused = self.batcher.add(self.now, peer, asked, size)
        if refused is not None:
            assert refused.code == "busy"
            own = [one for one in waiting if one.peer == peer]
            full = len(waiting) == LIMITS.max_items or len(own) == LIMITS.max_items // 2
            assert full or self.batcher.waiting_bytes + size > LIMITS.max_bytes
            return
        found = Asked(peer, self.numbers, batch_key(asked), priority, self.now, self.now + deadline_s)
        self.asked[peer, self.numbers] = found

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        over = {item.key for item in self.batcher.expire(self.now)}
        assert over == {key for key, one in self.asked.items() if one.deadline <= self.now}
        for key in over:
            del self.asked[key]

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.asked:
            key = data.draw(st.sampled_from(sorted(self.asked)))
            assert self.batcher.cancel(self.now, *key)
            del self.asked[key]
        assert not self.batcher.cancel(self.now, b"a", 10**9)

    @rule(peer=st.sampled_from(PEERS))
    def client_goes(self, peer: bytes) -> None:
        gone = [key for key in self.asked if key[0] == peer]
        assert self.batcher.forget(peer) == len(gone)
        for key in gone:
            del self.asked[key]

    @precondition(lambda self: self.batch is None)
    @rule()
    def take(self) -> None:
        before = {key: one for key, one in self.asked.items() if not one.running}
        self.batch = self.batcher.take(self.now)
        if self.batch is None:
            assert not before or (self.batcher.wakes_at(self.now) or 0.0) > self.now
            assert all(self.now - one.arrived < LIMITS.max_wait_s for one in before.values())
            return
        self._check(self.batch, list(before.values()))
        for item in self.batch.items:
            self.asked[item.key].running = True

    def _check(self, batch: Batch, before: list[Asked]) -> None:
        alike = [one for one in before if one.key == batch.key]
        alike.sort(key=lambda one: (one.priority, one.number))
        # Who is passed over has less time left than everybody who was taken.
        earliest = min(item.deadline for item in batch.items)
        expected = [(one.peer, one.number) for one in alike if one.deadline >= earliest]
        assert [item.key for item in batch.items] == expected[: len(batch.items)]
        assert 0 < len(batch.items) <= LIMITS.max_batch
        if batch.fired is Fired.FULL:
            assert len(alike) >= LIMITS.max_batch
        if batch.fired is Fired.WAIT_EXPIRED:
            assert min(one.arrived for one in alike) + LIMITS.max_wait_s <= self.now

    @precondition(lambda self: self.batch is not None)
    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0]))
    def finish(self, seconds: float) -> None:
        assert self.batch is not None
        self.now += seconds
        wanted = self.batcher.finish(self.now, self.batch, seconds)
        assert wanted == [item.key in self.asked for item in self.batch.items]
        for item in self.batch.items:
            self.asked.pop(item.key, None)
        self.batch = None

    @invariant()
    def bounds_hold(self) -> None:
        waiting = [one for one in self.asked.values() if not one.running]
        assert self.batcher.waiting_items == len(waiting) <= LIMITS.max_items
        assert 0 <= self.batcher.waiting_bytes <= LIMITS.max_bytes
        assert self.batcher.empty == (not self.asked)
        if self.asked:
            assert self.batcher.next_deadline is not None
            assert self.batcher.next_deadline <= min(one.deadline for one in self.asked.values())


BatcherMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("HEADRACE_SOAK_EXAMPLES", "100")), stateful_step_count=40, deadline=None
)
TestBatcherMachine = BatcherMachine.TestCase
