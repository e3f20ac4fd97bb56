"""The byte account: the sum never exceeds the bound, and no byte is lost from it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.credit import CreditPool


def test_the_window_is_an_equal_share_or_the_minimum_if_that_is_more() -> None:
    pool = CreditPool(1000, max_sessions=4)
    assert (pool.window(100), pool.window(300)) == (250, 300)


def test_no_window_left() -> None:
    pool = CreditPool(1000, max_sessions=2)
    assert [pool.open(session, 0) for session in (1, 2, 3)] == [500, 500, 0]
    assert not pool.knows(3)
    pool.close(1)
    assert pool.open(3, 0) == 500


def test_more_than_the_credit_is_not_counted() -> None:
    pool = CreditPool(1000, max_sessions=1)
    pool.open(1, 0)
    assert pool.receive(1, 999)
    assert not pool.receive(1, 2)
    assert pool.in_flight_bytes == 999
    assert pool.receive(1, 1)


def test_credit_is_sent_when_an_eighth_has_gathered_or_nothing_is_in_flight() -> None:
    pool = CreditPool(800, max_sessions=1)
    pool.open(1, 0)
    pool.receive(1, 300)
    assert [pool.consume(1, size) for size in (99, 1, 99, 101)] == [0, 100, 0, 200]
    pool.receive(1, 5)
    assert pool.consume(1, 5) == 5


def test_what_is_in_flight_when_a_session_closes_comes_back_as_it_is_consumed() -> None:
    pool = CreditPool(1000, max_sessions=1)
    pool.open(1, 0)
    pool.receive(1, 600)
    pool.close(1)
    assert (pool.free_bytes, pool.in_flight_bytes, pool.knows(1)) == (400, 600, True)
    assert pool.consume(1, 500) == 0
    assert (pool.free_bytes, pool.knows(1)) == (900, True)
    assert pool.consume(1, 100) == 0
    assert (pool.free_bytes, pool.knows(1)) == (1000, False)


def test_consuming_nothing_of_a_session_that_is_gone_means_nothing() -> None:
    pool = CreditPool(1000, max_sessions=1)
    pool.open(1, 0)
    pool.close(1)
    assert pool.consume(1, 0) == 0


def test_consuming_more_than_came_is_a_bug() -> None:
    pool = CreditPool(1000, max_sessions=1)
    pool.open(1, 0)
    with pytest.raises(AssertionError):
        pool.consume(1, 1)


class Pool(RuleBasedStateMachine):
    """What the producers may still send, kept from what was told to them, plus what is in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = CreditPool(10_000, max_sessions=5)
        self.unspent: dict[int, int] = {}
        self.in_flight: dict[int, int] = {}
        self.sessions = 0

    @rule(minimum=st.sampled_from((0, 1, 2500, 9_000)))
    def open(self, minimum: int) -> None:
        self.sessions += 1
        credit = self.pool.open(self.sessions, minimum)
        if credit:
            assert credit == max(2000, minimum)
            self.unspent[self.sessions], self.in_flight[self.sessions] = credit, 0

    @precondition(lambda self: self.unspent)
    @rule(data=st.data(), part=st.floats(0, 1.1))
    def receive(self, data: st.DataObject, part: float) -> None:
        session = data.draw(st.sampled_from(sorted(self.unspent)))
        size = int(self.unspent[session] * part) + 1
        allowed = size <= self.unspent[session]
        assert self.pool.receive(session, size) == allowed
        if allowed:
            self.unspent[session] -= size
            self.in_flight[session] += size

    @precondition(lambda self: any(self.in_flight.values()))
    @rule(data=st.data(), part=st.floats(0, 1))
    def consume(self, data: st.DataObject, part: float) -> None:
        session = data.draw(st.sampled_from(sorted(s for s, size in self.in_flight.items() if size)))
        size = max(1, int(self.in_flight[session] * part))
        self.in_flight[session] -= size
        credit = self.pool.consume(session, size)
        assert credit == 0 or session in self.unspent
        if credit:
            self.unspent[session] += credit

    @precondition(lambda self: self.unspent)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.unspent)))
        del self.unspent[session]
        self.pool.close(session)

    @invariant()
    def bounded(self) -> None:
        assert self.pool.in_flight_bytes == sum(self.in_flight.values())
        assert self.pool.in_flight_bytes + sum(self.unspent.values()) + self.pool.free_bytes <= 10_000

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        assert all(self.unspent[session] > 0 for session in self.unspent if not self.in_flight[session])

    def teardown(self) -> None:
        for session in list(self.unspent):
            self.pool.close(session)
        for session, size in self.in_flight.items():
            if size:
                self.pool.consume(session, size)
        assert self.pool.free_bytes == 10_000


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=40, derandomize=True, deadline=None)
