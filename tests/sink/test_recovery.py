"""Whatever a crash leaves of a shard, recovery keeps each committed episode, drops the rest, and writing goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import CorruptionError, DatasetError, SpecError
from protocol.layout import DOCUMENT, EPISODE, SEAL, ShardLayout
from protocol.spec import Column
from sink.staging import PAGE
from tests.fakes import CheckingReader, counted_episode, counting_spec
from tests.sink.bench import SHARD_BYTES, Bench

FIRST_GROUP = (0, 1, 2)
LAST_GROUP = (3, 5, 4, 9)  # 4 is VOID
BOTH = sorted((*FIRST_GROUP, *LAST_GROUP))
LATER = (6, 7, 8)


@dataclass
class Crashed:
    """A shard with two committed groups, and the same shard just before the second group's rows were written."""

    root: Path
    layout: ShardLayout
    before: bytes
    after: bytes

    @property
    def path(self) -> Path:
        return self.layout.path

    def row(self, number: int) -> slice:
        """The bytes of an EPISODE row in the file."""
        start = self.layout.offsets["episodes"] + number * EPISODE.itemsize
        return slice(start, start + EPISODE.itemsize)

    @property
    def last_rows(self) -> slice:
        """The bytes of the last group's rows."""
        first = len(FIRST_GROUP)
        return slice(self.row(first).start, self.row(first + len(LAST_GROUP) - 1).stop)

    @contextmanager
    def edit(self, image: bytes) -> Iterator[bytearray]:
        """Put an image in place of the shard, changed by the body."""
        data = bytearray(image)
        yield data
        assert len(data) == len(image)
        self.path.write_bytes(data)

    def recovered(self) -> list[int]:
        """The indices after recovery; the dataset must be whole, and a second recovery must change nothing."""
        Bench(self.root).abandon()
        once = self.path.read_bytes()
        bench = Bench(self.root)
        assert self.path.read_bytes() == once, "a second recovery changed the file"
        found = sorted(bench.store.committed)
        bench.abandon()
        assert CheckingReader(self.root).indices == found
        return found

    def goes_on(self) -> None:
        """More episodes are taken, and everything reads back."""
        with Bench(self.root) as bench:
            had = list(bench.store.committed)
            missing = [index for index in (*BOTH, *LATER) if index not in had]
            bench.put(*missing)
        assert CheckingReader(self.root).indices == sorted((*BOTH, *LATER))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    root = tmp_path_factory.mktemp("crashed")
    bench = Bench(root, shard_bytes=2 * SHARD_BYTES)
    bench.put(*FIRST_GROUP)
    bench.put(*LAST_GROUP, commit=False)
    layout = bench.store.active.layout
    bench.store.active._staging.flush()
    before = layout.path.read_bytes()
    bench.store.commit()
    bench.abandon()
    return Crashed(root, layout, before, layout.path.read_bytes())


@pytest.fixture
def crashed(images: Crashed) -> Crashed:
    images.path.write_bytes(images.after)
    for path in images.path.parent.iterdir():
        if path != images.path:
            path.unlink()
    return images


def test_without_a_crash_nothing_changes(crashed: Crashed) -> None:
    assert crashed.recovered() == BOTH
    assert crashed.path.read_bytes() == crashed.after
    crashed.goes_on()


def test_a_group_cut_at_any_byte_leaves_its_whole_rows(crashed: Crashed) -> None:
    rows = crashed.last_rows
    for cut in range(rows.stop - rows.start + 1):
        with crashed.edit(crashed.before) as data:
            data[rows.start : rows.start + cut] = crashed.after[rows.start : rows.start + cut]
        bench = Bench(crashed.root)
        whole = cut // EPISODE.itemsize
        assert sorted(bench.store.committed) == sorted((*FIRST_GROUP, *LAST_GROUP[:whole])), f"cut at byte {cut}"
        bench.abandon()
        if cut % 61 == 0:
            assert crashed.recovered() == sorted((*FIRST_GROUP, *LAST_GROUP[:whole]))
            crashed.goes_on()
            for path in crashed.path.parent.glob("*.h5"):
                path.unlink()
            crashed.path.write_bytes(crashed.after)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.sets(st.integers(0, len(LAST_GROUP) - 1)), noise=st.binary(min_size=1, max_size=40))
def test_rows_that_reached_the_disk_in_any_order_are_a_prefix_after_recovery(
    crashed: Crashed, written: set[int], noise: bytes
) -> None:
    for path in crashed.path.parent.glob("*.h5"):
        path.unlink()
    with crashed.edit(crashed.before) as data:
        for place in range(len(LAST_GROUP)):
            row = crashed.row(len(FIRST_GROUP) + place)
            if place in written:
                data[row] = crashed.after[row]
            else:
                data[row.start : row.start + len(noise)] = noise
    whole = next(place for place in range(len(LAST_GROUP) + 1) if place not in written)
    assert crashed.recovered() == sorted((*FIRST_GROUP, *LAST_GROUP[:whole]))
    erased = crashed.path.read_bytes()[crashed.row(len(FIRST_GROUP) + whole).start : crashed.last_rows.stop]
    assert not any(erased), "rows behind the torn one can come back to life"
    crashed.goes_on()


def test_a_row_behind_a_torn_one_does_not_come_back_when_its_place_is_reached(crashed: Crashed) -> None:
    torn = crashed.row(len(FIRST_GROUP))
    with crashed.edit(crashed.after) as data:
        data[torn] = bytes(EPISODE.itemsize)
    assert crashed.recovered() == sorted(FIRST_GROUP)
    with Bench(crashed.root) as bench:
        bench.put(6)  # takes the torn row's place; the rows behind it were sound
    assert CheckingReader(crashed.root).indices == sorted((*FIRST_GROUP, 6))


@pytest.mark.parametrize("number", range(len(FIRST_GROUP)))
def test_damage_before_a_later_commit_is_refused_and_nothing_is_changed(crashed: Crashed, number: int) -> None:
    with crashed.edit(crashed.after) as data:
        data[crashed.row(number).start + 5] ^= 1
    damaged = crashed.path.read_bytes()
    with pytest.raises(CorruptionError, match=rf"000000\.h5: row {number} is damaged, but row 3 "):
        Bench(crashed.root)
    assert crashed.path.read_bytes() == damaged


def test_data_beyond_the_tail_is_overwritten(crashed: Crashed) -> None:
    used = max(int(row["blob_end"]) for row in episode_rows(crashed))
    steps = sum(int(row["steps"]) for row in episode_rows(crashed))
    start = crashed.layout.offsets["blob"] + used
    place = crashed.layout.offsets["steps/action"] + steps * 12
    with crashed.edit(crashed.after) as data:
        data[start : crashed.layout.offsets["blob"] + crashed.layout.capacity.blob_bytes] = b"\xa5" * (
            crashed.layout.capacity.blob_bytes - used
        )
        data[place : place + 12 * 50] = b"\xa5" * 600
    bench = Bench(crashed.root)
    next_page = -(-used // PAGE) * PAGE
    assert (bench.store.active.blob_tail, bench.store.active.step_tail) == (next_page, steps)
    bench.abandon()
    crashed.goes_on()


def test_frames_of_episodes_that_were_not_committed_are_forgotten(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(0, 1)
    tail = bench.store.active.blob_tail
    attempt, made = bench.begin(2)
    bench.frames(attempt, made.messages()[0])
    bench.put(3, commit=False)
    bench.abandon()
    with Bench(tmp_path) as again:
        assert list(again.store.committed) == [0, 1]
        assert again.store.active.blob_tail == tail
        again.put(2, 3)
    assert CheckingReader(tmp_path).indices == [0, 1, 2, 3]


def episode_rows(crashed: Crashed) -> np.ndarray:
    with h5py.File(crashed.path, "r") as file:
        rows: np.ndarray = file["episodes"][: len(BOTH)]
    return rows


def test_documents_cut_at_any_byte_are_written_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, shard_bytes=2 * SHARD_BYTES)
    bench.put(0)  # model 0
    before = bench.store.active.path.read_bytes()
    bench.put(1, commit=False)  # model 1: its document and row are written, its episode is not committed
    layout = bench.store.active.layout
    after = layout.path.read_bytes()
    bench.abandon()
    start = layout.offsets["documents"] + DOCUMENT.itemsize
    assert before[start : start + DOCUMENT.itemsize] == bytes(DOCUMENT.itemsize)
    for cut in range(DOCUMENT.itemsize + 1):
        layout.path.write_bytes(after[: start + cut] + before[start + cut :])
        with Bench(tmp_path, shard_bytes=2 * SHARD_BYTES) as again:
            assert list(again.store.committed) == [0]
            # Its bytes lie beyond the committed tail, so they will be overwritten and it must not count.
            assert len(again.store.active.recovered.documents) == 1, f"cut at byte {cut}"
            if cut % 11 == 0:
                again.put(2, 1, 4)
        if cut % 11 == 0:
            assert CheckingReader(tmp_path).indices == [0, 1, 2, 4]


def test_a_damaged_document_that_episodes_refer_to_is_refused(crashed: Crashed) -> None:
    start = crashed.layout.offsets["documents"]
    with crashed.edit(crashed.after) as data:
        data[start + 70] ^= 1
    damaged = crashed.path.read_bytes()
    with pytest.raises(CorruptionError, match=r"000000\.h5: document row 0 is damaged"):
        Bench(crashed.root)
    assert crashed.path.read_bytes() == damaged


def filled(root: Path, shards: int = 3) -> int:
    """Fill shards until number `shards` is being written; returns how many episodes that took."""
    bench = Bench(root)
    index = 0
    while bench.store.active.layout.number < shards - 1:
        bench.put(index)
        index += 1
    bench.put(index)
    bench.abandon()
    return index + 1


def test_sealed_shards_are_not_touched(tmp_path: Path) -> None:
    count = filled(tmp_path)
    paths = CheckingReader(tmp_path).paths()
    before = [path.read_bytes() for path in paths[:2]]
    with Bench(tmp_path) as bench:
        assert list(bench.store.committed) == list(range(count))
        assert bench.store.active.layout.number == 2
        bench.put(count)
    assert [path.read_bytes() for path in paths[:2]] == before
    assert CheckingReader(tmp_path).indices == list(range(count + 1))


@pytest.mark.parametrize("byte", [0, 20, 170, 400])
def test_damage_in_a_sealed_shard_is_refused(tmp_path: Path, byte: int) -> None:
    filled(tmp_path)
    layout = ShardLayout.read(CheckingReader(tmp_path).paths()[0])
    data = bytearray(layout.path.read_bytes())
    data[layout.offsets["episodes"] + byte] ^= 4
    layout.path.write_bytes(data)
    with pytest.raises(CorruptionError, match=rf"000000\.h5: row {byte // EPISODE.itemsize} is damaged"):
        Bench(tmp_path)


def test_a_full_shard_whose_seal_was_torn_is_sealed_later(tmp_path: Path) -> None:
    count = filled(tmp_path)
    layout = ShardLayout.read(CheckingReader(tmp_path).paths()[0])
    data = bytearray(layout.path.read_bytes())
    seal = slice(layout.offsets["seal"], layout.offsets["seal"] + SEAL.itemsize)
    assert any(data[seal])
    sealed = bytes(data)
    for cut in range(SEAL.itemsize):
        data[seal] = sealed[seal][:cut] + bytes(SEAL.itemsize - cut)
        layout.path.write_bytes(data)
        with Bench(tmp_path) as bench:
            assert list(bench.store.committed) == list(range(count)), f"cut at byte {cut}"
    with h5py.File(layout.path, "r") as file:
        assert file["seal"][0]["episodes"] > 0
    assert CheckingReader(tmp_path).indices == list(range(count))


def test_the_next_number_is_above_all_others(tmp_path: Path) -> None:
    """Shard 0 not sealed (its seal was torn), 1 sealed, and no 2: writing goes on in 2, not over 1."""
    count = filled(tmp_path)
    paths = CheckingReader(tmp_path).paths()
    paths[2].unlink()
    left = CheckingReader(tmp_path).indices
    layout = ShardLayout.read(paths[0])
    data = bytearray(layout.path.read_bytes())
    data[layout.offsets["seal"] : layout.offsets["seal"] + SEAL.itemsize] = bytes(SEAL.itemsize)
    layout.path.write_bytes(data)
    before = paths[1].read_bytes()
    with Bench(tmp_path) as bench:
        assert bench.store.active.layout.number == 2
        bench.put(*(index for index in range(count + 30) if index not in left))
    assert paths[1].read_bytes() == before
    assert CheckingReader(tmp_path).indices == list(range(count + 30))


def test_prepared_shards_and_drafts_are_cleared_away(crashed: Crashed) -> None:
    draft = crashed.path.with_name("000001.h5.preparing")
    draft.write_bytes(b"half a shard")
    bench = Bench(crashed.root)
    assert not draft.exists()
    bench.store.prepare()
    assert bench.store.preparing is not None
    bench.store.preparing.result(timeout=30)
    bench.abandon()
    assert [path.name for path in CheckingReader(crashed.root).paths()] == ["000000.h5", "000001.h5"]
    assert crashed.recovered() == BOTH
    assert [path.name for path in CheckingReader(crashed.root).paths()] == ["000000.h5"]
    crashed.goes_on()


def test_a_clean_stop_removes_the_shard_that_was_prepared(crashed: Crashed) -> None:
    with Bench(crashed.root) as bench:
        bench.store.prepare()
    assert [path.name for path in crashed.path.parent.iterdir()] == ["000000.h5"]


def test_an_empty_shard_after_a_sealed_one_is_used(tmp_path: Path) -> None:
    count = filled(tmp_path)
    path = CheckingReader(tmp_path).paths()[2]
    layout = ShardLayout.read(path)
    data = bytearray(path.read_bytes())
    start = layout.offsets["episodes"]
    data[start : start + layout.capacity.episodes * EPISODE.itemsize] = bytes(
        layout.capacity.episodes * EPISODE.itemsize
    )
    path.write_bytes(data)
    with Bench(tmp_path) as bench:
        assert bench.store.active.layout.number == 2
        assert bench.store.active.rows == 0
        bench.put(count)
    assert count in CheckingReader(tmp_path).indices


def test_an_index_found_twice_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    first, second = CheckingReader(tmp_path).paths()[:2]
    shutil.copy(first, second)
    with pytest.raises(CorruptionError, match="index 0 is committed twice"):
        Bench(tmp_path)


def test_another_schema_in_the_folder_is_refused(crashed: Crashed) -> None:
    spec = counting_spec()
    other = type(spec)(spec.name, spec.rate_hz, spec.max_steps, (Column("action", "float32", (4,)),), spec.cameras)
    with pytest.raises(SpecError, match=r"000000\.h5 has another schema: .*'action'"):
        Bench(crashed.root, other)


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"not a shard" * 100), id="other"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-70_000]), id="truncated"),
    ],
)
def test_a_file_that_is_no_shard_is_named(crashed: Crashed, break_it: Callable[[Path], object]) -> None:
    break_it(crashed.path)
    with pytest.raises(DatasetError, match=r"000000\.h5: not a Headrace shard"):
        Bench(crashed.root)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4, unique=True), min_size=1, max_size=6),
    crashes=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_any_history_of_commits_and_kills_keeps_what_was_committed(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]], crashes: list[bool]
) -> None:
    root = tmp_path_factory.mktemp("history")
    expected: set[int] = set()
    bench = Bench(root, shard_bytes=64 * 1024)
    for group, crash in zip(groups, crashes, strict=False):
        new = [index for index in group if index not in expected]
        bench.put(*new, commit=False)
        if crash:
            # Episodes of a shard that is full by now may have been committed with it.
            bench.abandon()
            bench = Bench(root, shard_bytes=64 * 1024)
        else:
            bench.store.commit()
            expected |= set(new)
        assert set(bench.store.committed) | expected >= expected
    bench.abandon()
    reader = CheckingReader(root)
    assert set(reader.indices) == expected
    assert all(reader.stored[index].outcome == counted_episode(counting_spec(), index).outcome for index in expected)
    shutil.rmtree(root)
