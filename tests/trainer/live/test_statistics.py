"""Running statistics against numpy over everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.dataset_view import DatasetView
from protocol.messages import Outcome
from tests.trainer.live.worlds import LOW, grow, names, take
from trainer import LiveDataset, Order, Selection
from trainer.live.statistics import MIN_STD, RunningStatistics, Statistics

values = arrays.arrays(
    np.float64, st.tuples(st.integers(0, 12), st.just(3)), elements=st.floats(-1e6, 1e6, width=32)
)


def check(found: Statistics, rows: np.ndarray) -> None:
    assert found.count.tolist() == [len(rows)] * rows.shape[1]
    scale = np.abs(rows).max(initial=1)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-9 * scale)
    np.testing.assert_allclose(found.std, np.maximum(rows.std(axis=0), MIN_STD), rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_array_equal(found.min, rows.min(axis=0))
    np.testing.assert_array_equal(found.max, rows.max(axis=0))


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=6).filter(lambda blocks: sum(map(len, blocks)) > 0))
def test_blocks_give_what_numpy_gives_for_all_at_once(blocks: list[np.ndarray]) -> None:
    running = RunningStatistics(3)
    for block in blocks:
        running.add(block)
    check(running.result(), np.concatenate(blocks))


def test_no_digits_are_lost_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    rows = 1e8 + rng.normal(size=(10_000, 2))
    running = RunningStatistics(2)
    for block in np.split(rows, 100):
        running.add(block)
    np.testing.assert_allclose(running.result().std, rows.std(axis=0), rtol=1e-6)


def test_values_that_are_not_finite_do_not_count() -> None:
    running = RunningStatistics(2)
    running.add(np.array([[1.0, np.nan], [3.0, 5.0], [np.inf, 7.0]]))
    found = running.result()
    assert found.count.tolist() == [2, 2]
    assert found.mean.tolist() == [2, 6]
    assert found.max.tolist() == [3, 7]


def training_rows(root: Path, column: str, share: float) -> np.ndarray:
    with LiveDataset(root, LOW, selection=Selection(validation_share=share)) as data:
        ours = {index for _, index, _ in names(data)}
    with DatasetView(root) as view:
        chosen = [e for e in view.new_episodes() if e.outcome is Outcome.SUCCESS and e.index in ours]
        return np.concatenate([episode.column(column) for episode in chosen])


def test_they_follow_the_training_episodes_as_they_come(tmp_path: Path) -> None:
    selection = Selection(validation_share=0.3)
    grow(tmp_path, range(10))
    with LiveDataset(tmp_path, LOW, selection=selection) as data:
        for first in range(10, 40, 6):
            grow(tmp_path, range(first, first + 6))
            take(data, 1)
            found = data.statistics()
            check(found["qpos"], training_rows(tmp_path, "observations/qpos", 0.3))
            check(found["action"], training_rows(tmp_path, "action", 0.3))
        state = data.state_dict()
    grow(tmp_path, range(40, 60))
    with LiveDataset(tmp_path, LOW, selection=selection) as data:
        assert data.statistics()["qpos"].count[0] > found["qpos"].count[0]
        data.load_state_dict(state)
        again = data.statistics()
    np.testing.assert_allclose(again["qpos"].std, found["qpos"].std, rtol=1e-12)


def test_a_column_that_never_moves_gets_the_least_deviation(tmp_path: Path) -> None:
    grow(tmp_path, [0, 7], steps=1)
    with LiveDataset(tmp_path, LOW, order=Order("frozen"), selection=Selection(where=lambda e: e.index == 7)) as data:
        found = data.statistics()["action"]
    assert found.std.tolist() == pytest.approx([MIN_STD] * 2)
    assert found.mean.tolist() == [7, 8]
