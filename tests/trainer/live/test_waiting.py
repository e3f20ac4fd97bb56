"""Waiting for data: with a message, as far as the limit says, and never for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol.errors import ConfigurationError, DatasetError
from tests.trainer.live.worlds import LOW, SMALL, expected, grow, names, names_of, take
from trainer import Follow, Limit, LiveDataset, Loading, Order, Selection

SOON = Follow(poll_s=0.01, timeout_s=60)


class During:
    """Runs something in a thread of its own as soon as `waiting` says that it is waited for."""

    def __init__(self, data: LiveDataset, act: Callable[[], object]) -> None:
        self._data, self._act = data, act
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        deadline = time.monotonic() + 30
        while not self._data.waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        self._act()


def test_an_empty_directory_is_waited_for_with_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that is not there yet."""
    root = tmp_path / "data"
    with LiveDataset(root, LOW, follow=SOON, loading=Loading(4, workers=1)) as data:
        assert data.episodes == 0
        with During(data, lambda: grow(root, [0, 1, 2])):
            (batch,) = take(data, 1)
        assert len(batch["index"]) > 0
        assert data.waiting == ""
        assert data.waited_s > 0
    assert f"waiting for data: {root}: no episodes yet" in caplog.text


def test_a_stream_that_is_not_there_yet_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grow(tmp_path, [0])
    late = msgspec.structs.replace(SMALL, name="lab/late")
    chosen = Selection(streams=("lab/late",))
    with (
        LiveDataset(tmp_path, LOW, selection=chosen, follow=SOON) as data,
        During(data, lambda: grow(tmp_path, [5], late)),
    ):
        assert {index for _, index, _ in names(take(data, 1))} == {5}
    assert "no stream 'lab/late'; the streams there are: lab/small" in caplog.text


def test_waiting_ends_when_told_to_or_after_its_time(tmp_path: Path) -> None:
    with LiveDataset(tmp_path, LOW, follow=Follow(stop=lambda: True)) as data:
        assert list(data) == []
        assert list(data.batches()) == []
        with pytest.raises(DatasetError, match=r"stopped before there was any data: .*no episodes yet"):
            data.schema()
    with (
        LiveDataset(tmp_path, LOW, follow=Follow(poll_s=0.01, timeout_s=0.05)) as data,
        pytest.raises(DatasetError, match=r"no episodes yet; waited 0\.05 s"),
    ):
        list(data)


def test_sampling_begins_when_there_is_enough(tmp_path: Path) -> None:
    grow(tmp_path, [0, 1], steps=5)
    with (
        LiveDataset(tmp_path, LOW, limit=Limit(min_episodes=3), follow=SOON) as data,
        During(data, lambda: grow(tmp_path, [2], steps=5)),
    ):
        assert {index for _, index, _ in names(data)} == {0, 1, 2}
    with LiveDataset(tmp_path, LOW, limit=Limit(min_samples=100), follow=Follow(stop=lambda: True)) as data:
        assert list(data) == []
    with (
        LiveDataset(tmp_path, LOW, limit=Limit(min_samples=100)) as data,
        pytest.raises(DatasetError, match=r"3 episodes with 15 samples are chosen so far; expected .*min_samples=100"),
    ):
        list(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_run_ahead_of_inserts_as_far_as_the_limit_says(tmp_path: Path, workers: int) -> None:
    grow(tmp_path, [0, 1], steps=10)
    limit = Limit(samples_per_insert=3, min_samples=10, error_buffer=8)
    stop = threading.Event()
    stop.set()
    follow = Follow(stop=stop.is_set)
    with LiveDataset(tmp_path, LOW, limit=limit, follow=follow, loading=Loading(4, workers=workers)) as data:
        # 3 × (20 - 10) + 8 = 38, in batches of 4.
        assert len(names(data.batches())) == 36
        grow(tmp_path, [2], steps=10)
        # 3 × (30 - 10) + 8 = 68; one batch more would be too many.
        assert 68 - 4 < 36 + len(names(data.batches())) <= 68
        assert list(data.batches()) == []
        state = data.state_dict()
    with LiveDataset(tmp_path, LOW, limit=limit, follow=follow) as data:
        data.load_state_dict(state)
        assert list(data.batches()) == []


def test_what_was_read_ahead_is_handed_over_before_it_waits(tmp_path: Path) -> None:
    """Three workers read ahead far more than the limit leaves; none of it may wait for new episodes."""
    grow(tmp_path, [0], steps=30)
    limit = Limit(samples_per_insert=1, error_buffer=4)
    with LiveDataset(tmp_path, LOW, limit=limit, follow=SOON, loading=Loading(4, workers=3, prefetch=4)) as data:
        batches = data.batches()
        assert len({name for _ in range(8) for name in names_of(next(batches))}) >= 28
        with During(data, lambda: grow(tmp_path, [1], steps=30)):
            assert names_of(next(batches))


@pytest.mark.parametrize(
    ("limit", "order", "follow", "why"),
    [
        (Limit(2), Order("frozen"), True, "mode='frozen' takes no new episodes"),
        (Limit(2), Order(), False, "follow=False does not wait for any"),
        (Limit(2, error_buffer=15), Order(), True, "expected at least 16, the larger of one batch on all ranks"),
        (Limit(20, error_buffer=19), Order(), True, "expected at least 20"),
        (Limit(2, error_buffer=31), Order(rank=0, world_size=2), True, "expected at least 32"),
    ],
)
def test_a_limit_that_could_block_for_ever_is_refused_at_once(
    small: Path, limit: Limit, order: Order, follow: bool, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"block for ever.*{why}"):
        LiveDataset(small, LOW, limit=limit, order=order, follow=follow, loading=Loading(16))


def test_the_least_buffer_that_is_allowed_does_not_block(tmp_path: Path) -> None:
    """At exactly min_samples one whole batch must be possible."""
    grow(tmp_path, [0], steps=16)
    limit = Limit(2, min_samples=16, error_buffer=16)
    with LiveDataset(tmp_path, LOW, limit=limit, follow=Follow(stop=lambda: True), loading=Loading(16)) as data:
        assert set(names(data.batches())) == expected(tmp_path)
