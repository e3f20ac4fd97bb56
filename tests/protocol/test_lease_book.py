"""Which index is next, and when a goal is met."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.interval_set import IntervalSet
from protocol.lease_book import LeaseBook
from protocol.messages import Goal, Outcome


def book(committed: tuple[int, ...] = (), successes: tuple[int, ...] = ()) -> LeaseBook:
    return LeaseBook(IntervalSet(committed), IntervalSet(successes))


def test_the_lowest_free_index_of_the_range_is_next() -> None:
    leases = book(committed=(0, 1, 3))
    goal = Goal(end=5)
    assert leases.next_index(goal) == 2
    leases.lease(2, session=1)
    assert leases.next_index(goal) == 4
    leases.lease(4, session=1)
    assert leases.next_index(goal) is None
    leases.release(2)
    assert leases.next_index(goal) == 2


def test_a_range_begins_where_it_says() -> None:
    leases = book()
    assert leases.next_index(Goal(start=7, end=9)) == 7
    assert leases.next_index(Goal(start=9, end=9)) is None


def test_no_more_leases_than_successes_missing() -> None:
    leases = book(committed=(0, 1), successes=(1,))
    goal = Goal(successes=2)
    assert leases.next_index(goal) == 2
    leases.lease(2, session=1)
    assert leases.next_index(goal) is None
    leases.start_commit(2, attempt=1, peer=b"p")
    assert leases.next_index(goal) is None
    leases.finish_commit(2, Outcome.FAILURE)
    assert leases.next_index(goal) == 3


def test_leases_outside_of_the_range_do_not_count() -> None:
    leases = book()
    leases.lease(0, session=1)
    assert leases.next_index(Goal(start=10, end=20, successes=1)) == 10


def test_an_endless_goal_is_never_met() -> None:
    leases = book(committed=(0,), successes=(0,))
    assert not leases.is_met(Goal())
    assert leases.next_index(Goal()) == 1


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(end=3), True),
        (Goal(end=4), False),
        (Goal(start=4, end=6), True),
        (Goal(start=5, end=5), True),
        (Goal(successes=2), True),
        (Goal(successes=3), False),
        (Goal(start=1, successes=2), False),
        (Goal(end=3, successes=9), True),  # there are no more indices
    ],
)
def test_a_goal_is_met_by_what_is_committed(goal: Goal, met: bool) -> None:
    assert book(committed=(0, 1, 2, 4, 5), successes=(0, 4)).is_met(goal) is met


def test_an_index_that_is_being_committed_is_neither_free_nor_committed() -> None:
    leases = book()
    leases.lease(0, session=5)
    leases.start_commit(0, attempt=1, peer=b"p")
    assert not leases.is_free(0)
    assert not leases.is_met(Goal(end=1))
    assert leases.finish_commit(0, Outcome.SUCCESS) == 5
    assert leases.is_met(Goal(end=1))
    assert 0 in leases.successes


def test_a_cancelled_commit_frees_the_index() -> None:
    leases = book()
    leases.lease(0, session=5)
    leases.start_commit(0, attempt=1, peer=b"p")
    assert leases.cancel_commit(0) == 5
    assert leases.is_free(0)


def test_what_is_taken_cannot_be_leased() -> None:
    leases = book(committed=(0,))
    with pytest.raises(AssertionError):
        leases.lease(0, session=1)


GOALS = (Goal(), Goal(successes=3), Goal(end=9), Goal(start=4, end=9, successes=2), Goal(start=6, successes=2))


@given(seed=st.integers(0, 2**32 - 1), followed=st.sets(st.sampled_from(GOALS)))
def test_a_goal_that_is_followed_is_where_counting_says(seed: int, followed: set[Goal]) -> None:
    """Tallies against the same book that counts anew each time; and a goal that can go on is named as changed."""
    order = random.Random(seed)
    leases = book(committed=(1, 4, 7), successes=(4, 7))
    for goal in followed:
        leases.look_at(goal)
    for _ in range(40):
        before = {goal: (leases.next_index(goal), leases.is_met(goal)) for goal in GOALS}
        leases.take_changed()
        free = [index for index in range(12) if leases.is_free(index)]
        step = order.choice(("lease", "end", "release", "release all"))
        if step == "lease" and free:
            leases.lease(order.choice(free), session=order.randrange(3))
        elif step == "end" and leases.leases:
            index = order.choice(sorted(leases.leases))
            leases.start_commit(index, attempt=1, peer=b"p")
        elif step == "release" and leases.leases:
            leases.release(order.choice(sorted(leases.leases)))
        elif step == "release all":
            leases.release_all(order.randrange(3))
        if leases.committing and order.random() < 0.5:
            index = order.choice(sorted(leases.committing))
            if order.random() < 0.2:
                leases.cancel_commit(index)
            else:
                leases.finish_commit(index, order.choice(list(Outcome)))
        named = leases.take_changed()
        for goal in GOALS:
            now = leases.next_index(goal), leases.is_met(goal)
            assert now == counted(leases, goal)
            opened = now[0] is not None and before[goal][0] is None
            assert goal not in followed or goal in named or (not opened and now[1] == before[goal][1])


def counted(leases: LeaseBook, goal: Goal) -> tuple[int | None, bool]:
    """`next_index` and `is_met`, from the lists of what is committed, leased and committing."""
    outstanding = {*leases.leases, *leases.committing}

    def inside(indices: Iterable[int]) -> set[int]:
        return {index for index in indices if goal.start <= index and (goal.end is None or index < goal.end)}

    successes = len(inside(leases.successes))
    enough = goal.successes is not None and successes >= goal.successes
    whole = goal.end is not None and inside(leases.committed) == set(range(goal.start, goal.end))
    if goal.successes is not None and successes + len(inside(outstanding)) >= goal.successes:
        return None, enough or whole
    taken = {*leases.committed, *outstanding}
    free = (index for index in count(goal.start) if index not in taken)
    index = next(free)
    return (index if goal.end is None or index < goal.end else None), enough or whole


@given(
    successes=st.integers(1, 8),
    outcomes=st.lists(st.sampled_from(Outcome), min_size=10, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_successes_are_the_first_that_succeed_at_all(successes: int, outcomes: list[Outcome], seed: int) -> None:
    order = random.Random(seed)
    goal, leases = Goal(end=len(outcomes), successes=successes), book()
    while not leases.is_met(goal):
        index = leases.next_index(goal)
        if index is not None and (not leases.leases or order.random() < 0.6):
            leases.lease(index, session=1)
            continue
        index = order.choice(sorted(leases.leases))
        if order.random() < 0.3:
            leases.release(index)
            continue
        leases.start_commit(index, attempt=1, peer=b"p")
        leases.finish_commit(index, outcomes[index])
    expected = [index for index, outcome in enumerate(outcomes) if outcome is Outcome.SUCCESS][:successes]
    assert list(leases.successes) == expected
    last = expected[-1] if len(expected) == successes else len(outcomes) - 1
    assert leases.committed.intervals() == [(0, last + 1)]
