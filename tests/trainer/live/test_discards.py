"""Discarded episodes are not sampled, and the order of samples stays a function of seed, epoch and snapshot."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.errors import ConfigurationError, CorruptionError, DatasetError
from protocol.flags import FLAGS_NAME
from sink.flagging import Word, add_flag
from tests.trainer.live.worlds import LOW, SMALL, expected, grow, names, names_of
from trainer import Follow, Limit, LiveDataset, Loading, Order, Selection
from trainer.live import plan
from trainer.live.options import Mode

ONE = Loading(batch_size=1)


def say(root: Path, what: Any, *indices: int) -> None:
    add_flag(root, SMALL.name, Word(what, indices, "because", "ana"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    grow(tmp_path / "data", range(24))
    return tmp_path / "data"


def indices_of(samples: Sequence[tuple[int, int, int]]) -> set[int]:
    return {index for _, index, _ in samples}


def test_discarded_episodes_are_left_out_until_they_are_kept_again(root: Path) -> None:
    everything = expected(root)
    say(root, "discard", 0, 1, 2)
    say(root, "flag", 5)
    with LiveDataset(root, LOW, loading=ONE) as data:
        assert set(names(data)) == {name for name in everything if name[1] > 2}
        assert (data.episodes, data.samples) == (len({n[1] for n in everything} - {0, 1, 2}), len(data))
        say(root, "keep", 1)
        assert set(names(data)) == {name for name in everything if name[1] not in (0, 2)}, "the next epoch"
    with LiveDataset(root, LOW, loading=ONE) as data:
        assert set(names(data)) == {name for name in everything if name[1] not in (0, 2)}, "another process"
    chosen = Selection(include_discarded=True)
    with LiveDataset(root, LOW, loading=ONE, selection=chosen) as data:
        assert set(names(data)) == everything


@pytest.mark.parametrize(("mode", "blocks"), [("growing", 4096), ("newest_first", 4096), ("newest_first", 1)])
def test_what_is_discarded_within_an_epoch_is_not_sampled_any_more(
    root: Path, mode: Mode, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after so many changes that the epoch takes nothing new in."""
    monkeypatch.setattr(plan, "_MAX_BLOCKS", blocks)
    everything = sorted(expected(root))
    with LiveDataset(root, LOW, loading=ONE, order=Order(mode)) as data:
        batches = iter(data)
        before = [names_of(next(batches))[0] for _ in range(10)]
        taken_out = sorted(indices_of(everything))[::2]
        say(root, "discard", *taken_out)
        after = names(batches)
    assert not indices_of(after) & set(taken_out)
    assert sorted(name for name in [*before, *after] if name[1] not in taken_out) == [
        name for name in everything if name[1] not in taken_out
    ], "all others once"


def test_what_is_kept_again_within_an_epoch_comes_with_the_next(root: Path) -> None:
    """Or a sample might come twice."""
    with LiveDataset(root, LOW, loading=ONE) as data:
        batches = iter(data)
        samples = [names_of(next(batches))[0] for _ in range(5)]
        first = samples[0][1]
        say(root, "discard", first)
        samples.append(names_of(next(batches))[0])
        say(root, "keep", first)
        samples += names(batches)
        assert len(set(samples)) == len(samples)
        assert first not in indices_of(samples[5:])
        assert set(names(data)) == expected(root)


def test_a_frozen_dataset_stays_as_it_was_at_its_first_batch(root: Path) -> None:
    with LiveDataset(root, LOW, order=Order("frozen")) as data:
        next(iter(data))
        say(root, "discard", 0)
        assert len(names(data)) + 8 == len(expected(root))
        assert set(names(data)) == expected(root)


def test_the_order_is_that_of_a_dataset_that_never_had_what_is_discarded(root: Path, tmp_path: Path) -> None:
    grow(tmp_path / "other", [index for index in range(24) if index not in (2, 9)])
    say(root, "discard", 2, 9, 5)
    say(root, "keep", 5)
    with LiveDataset(root, LOW) as data, LiveDataset(tmp_path / "other", LOW) as other:
        assert names(data.batches(30)) == names(other.batches(30))


@pytest.mark.parametrize("mode", ["growing", "newest_first"])
@pytest.mark.parametrize("seed", range(3))
def test_a_state_leads_to_the_same_samples_whatever_was_said_before_and_after(
    root: Path, tmp_path: Path, mode: Mode, seed: int
) -> None:
    """Commits, discards and keeps at random; from each state another dataset goes on as the first did."""
    chance, order, committed = random.Random(f"{mode}{seed}"), Order(mode, seed), 24
    states: list[dict[str, Any]] = []
    with LiveDataset(root, LOW, order=order, loading=Loading(batch_size=3)) as data:
        for _ in range(20):
            match chance.randrange(4):
                case 0:
                    say(root, "discard", *chance.sample(range(committed), 4))
                case 1:
                    say(root, "keep", *chance.sample(range(committed), 6))
                case 2:
                    grow(root, range(committed, committed + 2))
                    committed += 2
            names(data.batches(chance.randrange(1, 6)))
            states.append(json.loads(json.dumps(data.state_dict())))
            if len(states) == 13:
                shutil.copytree(root, tmp_path / "then")
        rest = names(data.batches(40))
    with LiveDataset(root, LOW, order=order, loading=Loading(batch_size=3)) as other:
        other.load_state_dict(states[-1])
        assert names(other.batches(40)) == rest
    # Without another look, a state means the same samples as when nothing of what came later was there.
    found = []
    for data_then_or_now in (tmp_path / "then", root):
        with LiveDataset(data_then_or_now, LOW, order=Order("frozen", seed), loading=Loading(batch_size=3)) as frozen:
            frozen.load_state_dict({**states[12], "options": {**states[12]["options"], "mode": "frozen"}})
            found.append(names(frozen.batches(40)))
    assert found[0] == found[1]


def test_the_state_names_the_lines_that_count(root: Path) -> None:
    say(root, "discard", 1)
    say(root, "flag", 2)
    with LiveDataset(root, LOW) as data:
        next(iter(data))
        state = data.state_dict()
        assert state["seen"][f"0:{SMALL.name}/{FLAGS_NAME}"] == 2
        say(root, "keep", 1)
        (root / SMALL.name / FLAGS_NAME).write_bytes(b"")
        with pytest.raises(DatasetError, match="was cut off to 0 bytes, with 2 flags that were seen"):
            data.refresh()
    with LiveDataset(root, LOW) as data, pytest.raises(DatasetError, match=r"flags.jsonl: expected 2 lines, found 0"):
        data.load_state_dict(state)


def test_a_state_from_before_there_were_flags_goes_on(root: Path) -> None:
    with LiveDataset(root, LOW) as data:
        next(iter(data))
        state = data.state_dict()
        rest = names(data)
    del state["options"]["include_discarded"]
    with LiveDataset(root, LOW) as data:
        data.load_state_dict(state)
        assert names(data) == rest
    with (
        LiveDataset(root, LOW, selection=Selection(include_discarded=True)) as data,
        pytest.raises(ConfigurationError, match="include_discarded: saved with False, now True"),
    ):
        data.load_state_dict(state)


def test_statistics_are_those_of_the_episodes_that_are_left(root: Path) -> None:
    with LiveDataset(root, LOW, selection=Selection(where=lambda episode: episode.index not in (0, 2))) as data:
        wanted = data.statistics()["qpos"]
    with LiveDataset(root, LOW) as data:
        before = data.statistics()["qpos"]
        assert before.count[0] > wanted.count[0]
        say(root, "discard", 0, 2)
        next(iter(data))
        after = data.statistics()["qpos"]
    for name in ("count", "mean", "std", "min", "max"):
        assert np.allclose(getattr(after, name), getattr(wanted, name), rtol=1e-12), name


def test_with_nothing_left_it_says_why_and_waits(root: Path) -> None:
    say(root, "discard", *range(24))
    with (
        LiveDataset(root, LOW) as data,
        pytest.raises(DatasetError, match=r"17 are discarded, as `headrace flag` shows"),
    ):
        next(iter(data))

    def stop() -> bool:
        say(root, "keep", 5)
        return False

    follow = Follow(stop=stop, poll_s=0.001)
    with LiveDataset(root, LOW, follow=follow, limit=Limit(min_episodes=1)) as data:
        assert indices_of(names_of(next(iter(data)))) == {5}


def test_an_epoch_ends_when_all_that_is_left_of_it_is_discarded(root: Path) -> None:
    with LiveDataset(root, LOW, loading=ONE) as data:
        batches = iter(data)
        next(batches)
        say(root, "discard", *(index for index in range(24) if index != 5))
        assert indices_of(names(batches)) <= {5}
        assert data.epoch == 1
        assert indices_of(names(data)) == {5}


def test_damaged_flags_stop_it(root: Path) -> None:
    say(root, "discard", 5)
    path = root / SMALL.name / FLAGS_NAME
    path.write_bytes(path.read_bytes().replace(b"[5]", b"[6]"))
    with LiveDataset(root, LOW) as data, pytest.raises(CorruptionError, match="what is discarded cannot be told"):
        next(iter(data))
