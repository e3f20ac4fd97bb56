"""Which episodes count, and one sentence where the choice cannot be met."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, DatasetError
from protocol.messages import Outcome
from protocol.spec import Camera, Column
from tests.trainer.live.worlds import LOW, SEEN, SMALL, expected, grow, names
from trainer import Limit, LiveDataset, Loading, Order, Sample, Selection


def indices(root: Path, *, sample: Sample = LOW, **selection: Any) -> set[int]:
    with LiveDataset(root, sample, selection=Selection(**selection)) as data:
        found = names(data)
        assert len({(source, index) for source, index, _ in found}) == data.episodes
    return {index for _, index, _ in found}


def stored(root: Path) -> dict[int, Outcome]:
    with DatasetView(root) as view:
        return {episode.index: episode.outcome for episode in view.new_episodes()}


def test_successes_failures_or_both_and_never_records_without_steps(small: Path) -> None:
    outcomes = stored(small)
    assert set(outcomes.values()) == set(Outcome)
    assert indices(small) == {index for index, found in outcomes.items() if found is Outcome.SUCCESS}
    assert indices(small, success=False) == {index for index, found in outcomes.items() if found is Outcome.FAILURE}
    assert indices(small, success=None) == {index for index, found in outcomes.items() if found is not Outcome.VOID}


def test_attributes_and_functions_choose(tmp_path: Path) -> None:
    for index in (0, 1, 2, 5, 6, 7, 9, 10):
        grow(tmp_path, [index], attributes={"level": "easy" if index % 2 else "hard", "weight": index})
    assert indices(tmp_path, attributes={"level": "easy"}) == {1, 5, 7, 9}
    assert indices(tmp_path, attributes={"level": "easy", "weight": 7}) == {7}
    assert indices(tmp_path, where=lambda episode: episode.attributes()["weight"] > 6) == {7, 9, 10}
    assert indices(tmp_path, attributes={"level": "hard"}, where=lambda episode: episode.index < 3) == {0, 2}
    with pytest.raises(DatasetError, match=r"no episode is chosen; not chosen were: 8 without the attribute 'lvel' \("):
        indices(tmp_path, attributes={"lvel": "easy"})
    with pytest.raises(DatasetError, match="8 with another 'level' than 'medium'"):
        indices(tmp_path, attributes={"level": "medium"})


def test_streams_are_chosen_by_name(tmp_path: Path) -> None:
    grow(tmp_path, range(5))
    grow(tmp_path, range(20, 27), SEEN)
    assert indices(tmp_path, streams=("lab/seen",)) == {20, 21, 22, 24, 26}
    assert len(indices(tmp_path)) == 5 + 3
    with pytest.raises(DatasetError, match="no stream 'lab/sen'; the streams there are: lab/seen, lab/small"):
        indices(tmp_path, streams=("lab/sen",))


def test_the_split_is_by_episode_and_stays_as_the_data_grow(tmp_path: Path) -> None:
    sides: list[tuple[set[int], set[int]]] = []
    for first in range(0, 200, 50):
        grow(tmp_path, range(first, first + 50), steps=1)
        parts = [indices(tmp_path, part=part, validation_share=0.25) for part in ("training", "validation")]
        sides.append((parts[0], parts[1]))
        assert parts[0] | parts[1] == {index for _, index, _ in expected(tmp_path)}
        assert not parts[0] & parts[1]
    for before, after in pairwise(sides):
        assert before[0] <= after[0]
        assert before[1] <= after[1]
    training, validation = sides[-1]
    assert 0.15 < len(validation) / (len(training) + len(validation)) < 0.35


def test_all_of_an_environment_is_on_one_side(tmp_path: Path) -> None:
    for environment in range(24):
        fields = {"environment": f"room {environment}"}
        grow(tmp_path, [35 * environment, 35 * environment + 1], attributes=fields, steps=1)
    split = {"validation_share": 0.5, "split_by": "environment"}
    training, validation = (indices(tmp_path, part=part, **split) for part in ("training", "validation"))
    assert {index // 35 for index in training} | {index // 35 for index in validation} == set(range(24))
    assert not {index // 35 for index in training} & {index // 35 for index in validation}
    assert 5 < len(training) / 2 < 19
    with pytest.raises(DatasetError, match="has no attribute 'room' to split by; there are: documents, environment"):
        indices(tmp_path, validation_share=0.5, split_by="room")


def test_an_empty_dataset_is_an_error_without_follow(tmp_path: Path) -> None:
    with LiveDataset(tmp_path, LOW) as data, pytest.raises(DatasetError, match=f"{tmp_path}: no episodes yet"):
        list(data)
    with pytest.raises(DatasetError, match="is no directory"):
        LiveDataset(tmp_path / "nothing", LOW)
    grow(tmp_path, [3, 4])
    with pytest.raises(DatasetError, match="not chosen were: 1 without steps, 1 failures"):
        indices(tmp_path)


def test_a_batch_that_cannot_be_filled_is_an_error_without_follow(tmp_path: Path) -> None:
    grow(tmp_path, [0], steps=3)
    with (
        LiveDataset(tmp_path, LOW, loading=Loading(8, drop_last=True)) as data,
        pytest.raises(DatasetError, match="3 samples are fewer than the 8 of one batch"),
    ):
        list(data)


def test_what_a_stream_does_not_have_is_named_with_what_it_has(seen: Path) -> None:
    has = "its cameras are: front, wrist"
    with pytest.raises(DatasetError, match=f"stream 'lab/seen' has no camera 'agentview'; {has}"):
        indices(seen, sample=Sample(cameras=("agentview",)))
    with pytest.raises(DatasetError, match="has no column 'observations/qvel'; its columns are: action, observations"):
        indices(seen, sample=Sample(states=("observations/qvel",)))
    with pytest.raises(DatasetError, match="has no column 'actions'"):
        indices(seen, sample=Sample(action="actions"))


def test_schemas_that_differ_are_refused_with_the_difference(tmp_path: Path) -> None:
    columns = (Column("action", "float32", (7,)), SMALL.columns[1])
    wide = msgspec.structs.replace(SMALL, name="lab/wide", columns=columns)
    grow(tmp_path, [0, 1])
    grow(tmp_path, [0, 1], wide)
    why = r"'lab/small' and 'lab/wide' cannot be mixed: column 'action': expected float32\[2\], found float32\[7\]"
    with pytest.raises(DatasetError, match=why):
        indices(tmp_path)
    assert indices(tmp_path, streams=("lab/wide",)) == {0, 1}


def test_only_what_is_chosen_has_to_be_the_same(tmp_path: Path) -> None:
    large = msgspec.structs.replace(SEEN, name="lab/large", cameras=(Camera("front", 60, 80),))
    grow(tmp_path, [0, 1], SEEN)
    grow(tmp_path, [0, 1], large)
    grow(tmp_path, [0, 1])
    assert indices(tmp_path) == {0, 1}  # no cameras
    chosen = {"streams": ("lab/seen", "lab/large")}
    with pytest.raises(DatasetError, match=r"camera 'front': expected 60×80, found 48×64\. .*or give an image_size"):
        indices(tmp_path, sample=Sample(cameras=("front",)), **chosen)
    sized = Sample(cameras=("front",), image_size=(30, 40))
    assert indices(tmp_path, sample=sized, **chosen) == {0, 1}
    slow = msgspec.structs.replace(SMALL, name="lab/slow", rate_hz=5)
    grow(tmp_path, [0], slow)
    with pytest.raises(DatasetError, match=r"rate_hz: expected 5\.0, found 20\.0"):
        indices(tmp_path, streams=("lab/slow", "lab/small"))


def test_nothing_counts_twice(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one holds the other; episodes would count twice"):
        LiveDataset([small, small / "lab"], LOW)
    shutil.copytree(small, tmp_path / "copy")
    with LiveDataset([small, tmp_path / "copy"], LOW) as data, pytest.raises(DatasetError, match="is a copy of"):
        list(data)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Sample(chunk_size=0), "chunk_size: expected at least 1, found 0"),
        (lambda: Sample(cameras="front"), "expected a tuple of different names, found 'front'"),  # type: ignore[arg-type]
        (lambda: Sample(image_size=(0, 3)), "image_size: expected"),
        (lambda: Sample(image_dtype="half"), "image_dtype: expected one of uint8, float32, found 'half'"),  # type: ignore[arg-type]
        (lambda: Selection(part="test"), "part: expected one of training"),  # type: ignore[arg-type]
        (lambda: Selection(validation_share=1), "validation_share: expected 0 to below 1"),
        (lambda: Selection(part="validation"), "of validation_share=0 is nothing"),
        (lambda: Order(mode="newest"), "mode: expected one of frozen, growing, newest_first, found 'newest'"),  # type: ignore[arg-type]
        (lambda: Order(rank=2, world_size=2), "rank: expected 0 to 1, found 2"),
        (lambda: Order(rank=2), "give rank and world_size, or neither"),
        (lambda: Limit(samples_per_insert=0), "samples_per_insert: expected above 0"),
        (lambda: Loading(batch_size=0), "batch_size: expected at least 1, found 0"),
        (lambda: Loading(processes=True), "processes=True needs workers of 1 or more"),
        (lambda: LiveDataset([]), "expected at least one dataset directory"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make()
