"""Which sample comes when: once an epoch, the same again after a stop, shared out among ranks, and as data grow."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import ConfigurationError, DatasetError
from tests.trainer.live.worlds import LOW, SEEN, Name, expected, grow, names, names_of, take
from trainer import Limit, LiveDataset, Loading, Order, Selection

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def orders(draw: st.DrawFn) -> Order:
    modes = st.sampled_from(["frozen", "growing", "newest_first"])
    return Order(draw(modes), seed=draw(st.integers(0, 5)), per=draw(st.sampled_from(["step", "episode"])))


@quick
@given(order=orders(), batch_size=st.integers(1, 20), drop_last=st.booleans())
def test_every_sample_comes_exactly_once_an_epoch(
    small: Path, order: Order, batch_size: int, drop_last: bool
) -> None:
    every = expected(small)
    with LiveDataset(small, LOW, order=order, loading=Loading(batch_size, drop_last=drop_last)) as data:
        epochs = []
        for number in range(3):
            assert data.epoch == number
            batches = list(data)
            assert len(batches) == len(data)
            assert all(len(batch["index"]) == batch_size for batch in batches[: None if drop_last else -1])
            epochs.append(names(batches))
    for found in epochs:
        assert len(set(found)) == len(found)
        if order.per == "episode":
            assert set(found) <= every
            assert len({index for _, index, _ in found}) == len(found)
        total = len({index for _, index, _ in every}) if order.per == "episode" else len(every)
        assert len(found) == (total - total % batch_size if drop_last else total)
        if order.per == "step" and not drop_last:
            assert set(found) == every
    assert epochs[0] != epochs[1]


@quick
@given(order=orders(), data=st.data())
def test_a_resumed_sequence_equals_the_uninterrupted_one(small: Path, order: Order, data: st.DataObject) -> None:
    """Also in the middle of an epoch, with another batch size, and with batches that were made ahead."""
    cut = data.draw(st.integers(0, 60), "batches before")
    size, other = (data.draw(st.integers(1, 9), name) for name in ("batch size", "batch size after"))
    before, after = (data.draw(st.sampled_from([0, 1, 3]), name) for name in ("workers", "workers after"))
    with LiveDataset(small, LOW, order=order, loading=Loading(size)) as whole:
        uninterrupted = names(take(whole, cut + 30))
    with LiveDataset(small, LOW, order=order, loading=Loading(size, workers=before)) as first:
        begun = names(take(first, cut))
        state = json.loads(json.dumps(first.state_dict()))
    with LiveDataset(small, LOW, order=order, loading=Loading(other, workers=after)) as second:
        second.load_state_dict(state)
        rest = names(take(second, 20))
    found = begun + rest
    length = min(len(found), len(uninterrupted))
    assert found[:length] == uninterrupted[:length]
    assert length > len(begun)


def test_a_loop_that_is_left_goes_on_where_it_was(small: Path) -> None:
    with LiveDataset(small, LOW, loading=Loading(4)) as data:
        whole = names(take(data, 60))
    found: list[Name] = []
    with LiveDataset(small, LOW, loading=Loading(4, workers=2)) as data:
        while len(found) < len(whole):
            for number, batch in enumerate(data):
                found += names_of(batch)
                if number == 4:
                    break
    assert found[: len(whole)] == whole


def test_processes_give_what_the_calling_thread_gives(seen: Path) -> None:
    """And what they made ahead and nobody saw comes again."""
    with LiveDataset(seen, loading=Loading(5)) as data:
        whole = take(data, 12)
    with LiveDataset(seen, loading=Loading(5, workers=2, processes=True)) as data:
        begun = take(data, 7)
        state = data.state_dict()
    with LiveDataset(seen, loading=Loading(5, workers=1, processes=True)) as data:
        data.load_state_dict(state)
        rest = take(data, 5)
    assert names(begun + rest) == names(whole)
    for batch, same in zip(begun + rest, whole, strict=True):
        assert batch["images"]["front"].equal(same["images"]["front"])
        assert batch["action"].equal(same["action"])


@quick
@given(order=orders(), world=st.integers(1, 5), batch_size=st.integers(1, 5), drop_last=st.booleans())
def test_ranks_have_equal_and_disjoint_shares_of_all(
    small: Path, order: Order, world: int, batch_size: int, drop_last: bool
) -> None:
    shares = []
    for rank in range(world):
        mine = replace(order, rank=rank, world_size=world)
        with LiveDataset(small, LOW, order=mine, loading=Loading(batch_size, drop_last=drop_last)) as data:
            batches = list(data)
            assert len(batches) == len(data)
            shares.append([names_of(batch) for batch in batches])
    assert len({tuple(len(batch) for batch in share) for share in shares}) == 1
    found = [name for share in shares for batch in share for name in batch]
    assert len(set(found)) == len(found)
    every = expected(small)
    total = len({index for _, index, _ in every}) if order.per == "episode" else len(every)
    assert total - len(found) < (world * batch_size if drop_last else world)


def test_many_ranks_together_take_what_one_takes(small: Path) -> None:
    """So the number of ranks may change in the middle of an epoch."""
    with LiveDataset(small, LOW, loading=Loading(12)) as data:
        one = [set(names_of(batch)) for batch in take(data, 20)]
        state = data.state_dict()
        later = [set(names_of(batch)) for batch in take(data, 3)]
    together: list[set[Name]] = [set() for _ in range(20)]
    after: list[set[Name]] = [set() for _ in range(3)]
    for rank in range(3):
        with LiveDataset(small, LOW, order=Order(rank=rank, world_size=3), loading=Loading(4)) as data:
            for place, batch in enumerate(take(data, 8)):
                together[place] |= set(names_of(batch))
            data.load_state_dict(state)
            for place, batch in enumerate(take(data, 3)):
                after[place] |= set(names_of(batch))
    assert together[:8] == one[:8]
    assert after == later


def test_the_order_is_that_of_this_release(small: Path) -> None:
    """A state saved by one release must mean the same to the next, on any machine and with any numpy."""
    with LiveDataset(small, LOW, order=Order(seed=7), loading=Loading(6)) as data:
        (batch,) = take(data, 1)
    assert [(index, step) for _, index, step in names_of(batch)] == GOLDEN


GOLDEN = [(15, 5), (15, 6), (5, 2), (14, 0), (24, 0), (12, 3)]


def test_the_order_does_not_depend_on_how_the_data_came(tmp_path: Path) -> None:
    """Another epoch over the same snapshot is the same, whether it was found at once or bit by bit."""
    with LiveDataset(tmp_path, LOW, follow=True, loading=Loading(7)) as data:
        for start in range(0, 30, 6):
            grow(tmp_path, range(start, start + 6))
            take(data, 2)
        while data.epoch == 0:
            take(data, 1)
        rest = names(data)
        piecemeal = names(data)
        number = data.epoch - 1
        assert rest
    with LiveDataset(tmp_path, LOW, loading=Loading(7)) as data:
        for _ in range(number):
            list(data)
        assert names(data) == piecemeal


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["growing", "newest_first"]),
    acts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=8),
    workers=st.sampled_from([0, 2]),
)
def test_a_growing_epoch_has_each_sample_once_and_can_be_resumed(
    tmp_path_factory: pytest.TempPathFactory, mode: Any, acts: list[tuple[int, int]], workers: int
) -> None:
    root = tmp_path_factory.mktemp("growing")
    grow(root, range(3))
    there = 3
    epochs: dict[int, list[Name]] = {}
    begun: dict[int, set[Name]] = {0: expected(root)}
    with LiveDataset(root, LOW, order=Order(mode, seed=1), loading=Loading(3, workers=workers)) as data:
        for new, batches in acts:
            grow(root, range(there, there + new))
            there += new
            for _ in range(batches):
                epoch, known = data.epoch, expected(root)
                (batch,) = take(data, 1)
                if data.epoch != epoch:  # the epoch was over, and this is of the next
                    begun[data.epoch] = known
                epochs.setdefault(data.epoch, []).extend(names_of(batch))
        state, epoch = json.loads(json.dumps(data.state_dict())), data.epoch
        data.refresh()
        rest = names(data)
    epochs.setdefault(epoch, []).extend(rest)
    for number, found in epochs.items():
        assert len(set(found)) == len(found), number
        assert begun[number] <= set(found), number
        assert set(found) <= expected(root)
    with LiveDataset(root, LOW, order=Order(mode, seed=1), loading=Loading(4)) as again:
        again.load_state_dict(state)
        assert names(again) == rest


def test_new_episodes_are_mixed_into_the_epoch_until_it_has_doubled(tmp_path: Path) -> None:
    grow(tmp_path, [0, 1, 2], steps=20)
    with LiveDataset(tmp_path, LOW, loading=Loading(10)) as data:
        take(data, 2)
        for first in (5, 10, 15, 20, 25, 30):
            grow(tmp_path, [first, first + 1], steps=20)
        rest = [next(more := iter(data))]
        # What had come by then was seen at once, and the epoch has more than doubled: what comes now has to wait.
        grow(tmp_path, [35, 36], steps=20)
        rest += more
        assert len(rest) == 6 - 2 + 2 * len({5, 6, 10, 15, 16, 20, 21, 26, 30, 31})
        news = [sum(index >= 5 for _, index, _ in names_of(batch)) for batch in rest]
        assert min(news) > 2, "new and old are mixed evenly"
        assert {35, 36}.isdisjoint(index for _, index, _ in names(rest))
        assert {35, 36} <= {index for _, index, _ in names(data)}


def test_newest_first_takes_what_came_last(tmp_path: Path) -> None:
    grow(tmp_path, [0, 1, 2], steps=20)
    with LiveDataset(tmp_path, LOW, order=Order("newest_first"), loading=Loading(10)) as data:
        take(data, 1)
        grow(tmp_path, [5, 6], steps=20)
        assert {index for _, index, _ in names(take(data, 4))} == {5, 6}
        assert {index for _, index, _ in names(take(data, 5))} == {0, 1, 2}
        assert data.epoch == 0


def test_a_frozen_snapshot_stays(tmp_path: Path) -> None:
    grow(tmp_path, range(6))
    every = expected(tmp_path)
    with LiveDataset(tmp_path, LOW, order=Order("frozen")) as data:
        take(data, 1)
        grow(tmp_path, range(6, 12))
        list(data)
        assert set(names(data)) == every
        state = data.state_dict()
    with LiveDataset(tmp_path, LOW, order=Order("frozen")) as data:
        data.load_state_dict(state)
        assert set(names(data)) == every


def test_a_state_that_does_not_fit_is_refused(small: Path, tmp_path: Path) -> None:
    with LiveDataset(small, LOW) as data:
        take(data, 3)
        state = data.state_dict()
        with pytest.raises(ConfigurationError, match=r"expected what LiveDataset\.state_dict\(\) returned"):
            data.load_state_dict({"epoch": 3})
    with (
        LiveDataset(small, LOW, order=Order(seed=3)) as data,
        pytest.raises(ConfigurationError, match="seed: saved with 0, now 3"),
    ):
        data.load_state_dict(state)
    with (
        LiveDataset(small, LOW, selection=Selection(success=None)) as data,
        pytest.raises(ConfigurationError, match="success: saved with True, now None"),
    ):
        data.load_state_dict(state)
    grow(tmp_path, range(3))
    with (
        LiveDataset(tmp_path, LOW) as data,
        pytest.raises(DatasetError, match=r"shard 0:lab/small/00000\d\.h5: expected \d+ committed episodes, found"),
    ):
        data.load_state_dict(state)


def test_several_roots_and_streams_are_one_dataset(small: Path, seen: Path, tmp_path: Path) -> None:
    grow(tmp_path, range(5))
    grow(tmp_path, range(5), SEEN)
    with LiveDataset([small, seen, tmp_path], LOW, loading=Loading(11)) as data:
        found = names(data)
        sources = [data.sources.index(source) for source in [(small, "lab/small"), (seen, SEEN.name)]]
        ours = [data.sources.index((tmp_path, name)) for name in ("lab/small", SEEN.name)]
    every = expected(small, source=sources[0]) | expected(seen, source=sources[1])
    every |= expected(tmp_path, "lab/small", ours[0]) | expected(tmp_path, SEEN.name, ours[1])
    assert set(found) == every
    assert len(found) == len(every)


def test_a_limit_that_is_never_reached_changes_nothing(small: Path) -> None:
    with LiveDataset(small, LOW) as data, LiveDataset(small, LOW, follow=True, limit=Limit(100)) as limited:
        assert names(take(data, 30)) == names(take(limited, 30))


def test_a_long_epoch_does_not_take_new_ones_in_with_every_batch(tmp_path: Path) -> None:
    """That would cost more than reading. They still come in this epoch, evenly."""
    grow(tmp_path, range(0, 210, 7), steps=60)
    with LiveDataset(tmp_path, LOW, loading=Loading(2)) as data:
        total = data.samples
        batches = data.batches()
        for first in range(300, 700, 20):
            grow(tmp_path, [first], steps=60)
            for _ in range(3):
                next(batches)
        joins = data.state_dict()["blocks"]
    new = [second - first for (first, _), (second, _) in pairwise(joins)]
    assert min(new) >= total / 210
    assert len(joins) > 4
