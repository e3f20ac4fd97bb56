"""IntervalSet against Python's set."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocol.interval_set import IntervalSet

members = st.integers(0, 40)
operations = st.lists(st.tuples(st.sampled_from(("add", "remove")), members), max_size=60)


def build(steps: list[tuple[str, int]]) -> tuple[IntervalSet, set[int]]:
    made, model = IntervalSet(), set[int]()
    for name, member in steps:
        getattr(made, name)(member)
        (model.add if name == "add" else model.discard)(member)
    return made, model


@given(operations)
def test_members_and_size(steps: list[tuple[str, int]]) -> None:
    made, model = build(steps)
    assert list(made) == sorted(model)
    assert len(made) == len(model)
    assert [member in made for member in range(45)] == [member in model for member in range(45)]


@given(operations)
def test_intervals_are_disjoint_and_never_touch(steps: list[tuple[str, int]]) -> None:
    made, model = build(steps)
    intervals = made.intervals()
    assert {n for start, end in intervals for n in range(start, end)} == model
    assert all(start < end for start, end in intervals)
    assert all(left[1] < right[0] for left, right in pairwise(intervals))


@given(operations, members)
def test_first_gap(steps: list[tuple[str, int]], start: int) -> None:
    made, model = build(steps)
    assert made.first_gap(start) == next(n for n in range(start, 100) if n not in model)


@given(operations, members, st.none() | members)
def test_count(steps: list[tuple[str, int]], start: int, end: int | None) -> None:
    made, model = build(steps)
    assert made.count(start, end) == sum(start <= n and (end is None or n < end) for n in model)


@given(operations, operations)
def test_a_copy_goes_its_own_way(steps: list[tuple[str, int]], more: list[tuple[str, int]]) -> None:
    made, model = build(steps)
    copy = made.copy()
    for name, member in more:
        getattr(copy, name)(member)
    assert list(made) == sorted(model)
    assert len(made) == len(model)


@given(st.lists(st.integers(0, 2**61), max_size=50) | st.lists(members, max_size=50))
def test_from_array_is_the_same_as_adding_one_by_one(values: list[int]) -> None:
    fast, slow = IntervalSet.from_array(np.array(values, np.int64)), IntervalSet(values)
    assert fast.intervals() == slow.intervals()
    assert len(fast) == len(slow) == len(set(values))
    assert all(type(n) is int for pair in fast.intervals() for n in pair)


def test_a_million_in_order_are_one_interval() -> None:
    assert IntervalSet.from_array(np.arange(1_000_000)).intervals() == [(0, 1_000_000)]
