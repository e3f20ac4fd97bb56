"""Following a dataset directory: what is new, what is gone, and what it costs when nothing happens."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from protocol.dataset_view import DatasetView
from protocol.errors import DatasetError
from protocol.folder_watch import FolderWatch
from tests.datasets import SPEC, Recorded, write_dataset

OTHER = msgspec.structs.replace(SPEC, name="test/other/deep")
SLIM = msgspec.structs.replace(SPEC, cameras=())


def found(view: DatasetView) -> list[tuple[str, int]]:
    """Stream and index of all that is new."""
    return [(episode.shard.spec.name, episode.index) for episode in view.new_episodes()]


def episodes(indices: Sequence[int]) -> list[Recorded]:
    return [Recorded(index, steps=2) for index in indices]


def test_each_episode_is_new_once_over_shards_and_streams(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with DatasetView(tmp_path) as view:
        assert found(view) == []
        write_dataset(tmp_path, episodes(range(5)))
        assert found(view) == [(SPEC.name, index) for index in range(5)]
        assert found(view) == []
        # Into the same shard, then beyond it, then another stream below a folder that was there.
        write_dataset(tmp_path, episodes(range(5, 9)))
        assert found(view) == [(SPEC.name, index) for index in range(5, 9)]
        write_dataset(tmp_path, [Recorded(index, steps=60) for index in range(9, 40)])
        assert found(view) == [(SPEC.name, index) for index in range(9, 40)]
        assert len(view.shards) > 1
        write_dataset(tmp_path, episodes([7]), OTHER)
        assert found(view) == [(OTHER.name, 7)]
        assert view.streams == [SPEC.name, OTHER.name]
        assert len(list(view.episodes())) == 41


def test_a_file_in_a_folder_that_was_just_listed_is_noticed(tmp_path: Path) -> None:
    """A folder's mtime may be the same before and after, if both happen within a tick of the clock."""
    watch = FolderWatch(tmp_path, ".h5")
    watch.changed()
    for number in range(300):
        path = tmp_path / f"{number:06d}.h5"
        path.touch()
        assert watch.changed(), number
        assert path in watch.files()
    path.unlink()
    assert watch.changed()
    assert len(watch.files()) == 299


def test_a_file_that_leaves_no_trace_in_the_mtime_is_found_by_listing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system that keeps old attributes for a while."""
    os.utime(tmp_path, (1e9, 1e9))
    watch = FolderWatch(tmp_path, ".h5")
    watch.changed()
    (tmp_path / "000000.h5").touch()
    os.utime(tmp_path, (1e9, 1e9))
    assert not watch.changed()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    assert watch.changed()


def test_folders_that_come_and_go_are_followed(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path, ".h5")
    assert not watch.changed()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "000000.h5").touch()
    (deep / "000001.h5.preparing").touch()
    assert watch.changed()
    assert watch.files() == [deep / "000000.h5"]
    (tmp_path / "link").symlink_to(deep)
    assert not watch.changed()
    shutil.rmtree(tmp_path / "a")
    assert watch.changed()
    assert watch.files() == []


def test_a_directory_that_disappears_is_one_clear_error(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", episodes([0]))
    with DatasetView(tmp_path / "data") as view:
        assert len(found(view)) == 1
        (tmp_path / "data").rename(tmp_path / "moved")
        with pytest.raises(DatasetError, match="has disappeared; was the dataset moved"):
            view.refresh()
    with pytest.raises(DatasetError, match="is no directory"):
        DatasetView(tmp_path / "data")


def test_a_shard_with_episodes_that_disappears_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, episodes([0, 1]))
    path = tmp_path / SPEC.name / "000000.h5"
    with DatasetView(tmp_path) as view:
        assert len(found(view)) == 2
        path.unlink()
        with pytest.raises(DatasetError, match=r"000000\.h5 was removed or replaced, with 2 committed episodes"):
            view.refresh()


def test_a_look_when_nothing_came_costs_microseconds(tmp_path: Path) -> None:
    write_dataset(tmp_path, episodes(range(30)))
    with DatasetView(tmp_path) as view:
        view.refresh()
        # A folder that changed a moment ago is listed again, to be sure.
        for folder in (tmp_path, tmp_path / "test", tmp_path / SPEC.name):
            os.utime(folder, (1e9, 1e9))
        view.refresh()
        costs = []
        for _ in range(200):
            began = time.perf_counter()
            assert view.refresh() == []
            costs.append(time.perf_counter() - began)
    # About ten microseconds on an idle machine.
    assert statistics.median(costs) < 200e-6


def test_a_thousand_new_episodes_are_seen_at_once(tmp_path: Path) -> None:
    write_dataset(tmp_path, episodes([0]), SLIM, shard_bytes=16 << 20)
    with DatasetView(tmp_path) as view:
        view.refresh()
        write_dataset(tmp_path, episodes(range(1, 1001)), SLIM, shard_bytes=16 << 20, group=100)
        began = time.perf_counter()
        (rows,) = view.refresh()
        cost = time.perf_counter() - began
    assert (rows.first, rows.last) == (1, 1001)
    # About a millisecond on an idle machine.
    assert cost < 0.1
