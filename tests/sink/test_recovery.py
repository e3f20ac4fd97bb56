"""Whatever a crash leaves of a shard, recovery keeps each committed episode, drops the rest, and writing goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import CorruptionError, DatasetError, SpecError
from protocol.layout import DOCUMENT, EPISODE, SEAL, Capacity, ShardLayout, seal_row
from protocol.shard_view import ShardView
from protocol.spec import Column, StreamSpec
from sink.leftover import SECTOR
from sink.pages import PAGE
from sink.shard_file import create_shard
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


def sectors(rows: slice) -> list[slice]:
    """What each sector of the file has of these bytes."""
    cuts = [rows.start, *range((rows.start // SECTOR + 1) * SECTOR, rows.stop, SECTOR), rows.stop]
    return [slice(a, b) for a, b in pairwise(cuts)]


def test_a_group_of_which_any_sectors_were_written_leaves_its_rows_up_to_the_first_gap(crashed: Crashed) -> None:
    parts = sectors(crashed.last_rows)
    assert len(parts) > 2
    for written in range(2 ** len(parts)):
        with crashed.edit(crashed.before) as data:
            for place, part in enumerate(parts):
                if written >> place & 1:
                    data[part] = crashed.after[part]
        first = len(FIRST_GROUP)
        sound = [data[crashed.row(first + n)] == crashed.after[crashed.row(first + n)] for n in range(len(LAST_GROUP))]
        whole = [*sound, False].index(False)
        assert crashed.recovered() == sorted((*FIRST_GROUP, *LAST_GROUP[:whole])), f"sectors {written:b}"
        crashed.goes_on()
        for path in crashed.path.parent.glob("*.h5"):
            path.unlink()


@pytest.mark.parametrize("number", range(len(BOTH)))
def test_a_flipped_bit_in_an_acknowledged_row_is_never_taken_for_a_crash(crashed: Crashed, number: int) -> None:
    row = crashed.row(number)
    for place in range(row.start, row.stop):
        with crashed.edit(crashed.after) as data:
            data[place] ^= 1 << place % 8
        with pytest.raises(CorruptionError, match=rf"000000\.h5: row {number} is damaged, but .*; nothing was changed"):
            Bench(crashed.root)
        assert crashed.path.read_bytes() == data


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.sets(st.integers(0, len(LAST_GROUP) - 1)))
def test_rows_that_reached_the_disk_in_any_order_are_a_prefix_after_recovery(
    crashed: Crashed, written: set[int]
) -> None:
    for path in crashed.path.parent.glob("*.h5"):
        path.unlink()
    with crashed.edit(crashed.before) as data:
        for place in range(len(LAST_GROUP)):
            row = crashed.row(len(FIRST_GROUP) + place)
            if place in written:
                data[row] = crashed.after[row]
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


def test_documents_that_were_torn_are_written_again(tmp_path: Path) -> None:
    """Document row 5 lies in two sectors; either may be there without the other."""
    bench = Bench(tmp_path, shard_bytes=2 * SHARD_BYTES)
    layout = bench.store.active.layout
    for number in range(4):
        bench.store.active.append_document(f"{number:064x}", b"another")
    bench.put(0)  # model 0
    before = layout.path.read_bytes()
    bench.put(1, commit=False)  # model 1: its document and row are written, its episode is not committed
    after = layout.path.read_bytes()
    bench.abandon()
    start = layout.offsets["documents"] + 5 * DOCUMENT.itemsize
    parts = sectors(slice(start, start + DOCUMENT.itemsize))
    assert len(parts) == 2
    for written in ([], [0], [1], [0, 1]):
        data = bytearray(before)
        for part in (parts[place] for place in written):
            data[part] = after[part]
        layout.path.write_bytes(data)
        with Bench(tmp_path, shard_bytes=2 * SHARD_BYTES) as again:
            assert list(again.store.committed) == [0]
            # Its bytes lie beyond the committed tail, so they will be overwritten and it must not count.
            assert len(again.store.active.recovered.documents) == 5, written
            again.put(2, 1, 4)
        assert CheckingReader(tmp_path).indices == [0, 1, 2, 4]


def test_a_flipped_bit_in_the_last_document_row_is_never_taken_for_a_crash(crashed: Crashed) -> None:
    start = crashed.layout.offsets["documents"]
    used = [n for n in range(8) if any(crashed.after[start + n * DOCUMENT.itemsize :][: DOCUMENT.itemsize])]
    for place in range(used[-1] * DOCUMENT.itemsize, (used[-1] + 1) * DOCUMENT.itemsize):
        with crashed.edit(crashed.after) as data:
            data[start + place] ^= 0x40
        with pytest.raises(CorruptionError, match=rf"document row {used[-1]} is damaged, but it was written whole"):
            Bench(crashed.root)
        assert crashed.path.read_bytes() == data


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


def sealed_shard(root: Path, spec: StreamSpec | None = None) -> tuple[ShardLayout, slice, list[int]]:
    """Two shards, the first of them sealed; the bytes of its seal, and all indices."""
    with Bench(root, spec) as bench:
        index = 0
        while bench.store.active.layout.number < 1:
            bench.put(index)
            index += 1
        bench.put(index)
        layout = ShardLayout.read(root / bench.spec.name / "000000.h5")
    start = layout.offsets["seal"]
    return layout, slice(start, start + SEAL.itemsize), list(range(index + 1))


def test_a_full_shard_whose_seal_was_torn_is_sealed_later(tmp_path: Path) -> None:
    for cameras in range(17):  # their number moves the seal; look for one in two sectors
        spec = counting_spec(cameras=cameras)
        layout = create_shard(tmp_path, cameras, spec, Capacity(8192, 64, 256), "uuid")
        if layout.offsets["seal"] % SECTOR > SECTOR - SEAL.itemsize:
            break
    layout, seal, indices = sealed_shard(tmp_path, spec)
    data = bytearray(layout.path.read_bytes())
    whole = bytes(data[seal])
    parts = sectors(seal)
    assert len(parts) == 2
    for lost in parts:
        data[seal] = whole
        data[lost] = bytes(lost.stop - lost.start)
        layout.path.write_bytes(data)
        assert not verify_seal(layout)
        with Bench(tmp_path, spec) as bench:
            assert list(bench.store.committed) == indices
        assert verify_seal(layout)
        assert CheckingReader(tmp_path, spec).indices == indices


def verify_seal(layout: ShardLayout) -> bool:
    """The shard has a sound seal."""
    with ShardView(layout.path) as view:
        return view.sealed


def test_a_seal_that_was_damaged_is_refused(tmp_path: Path) -> None:
    layout, seal, _ = sealed_shard(tmp_path)
    for place in range(seal.start, seal.stop):
        data = bytearray(layout.path.read_bytes())
        data[place] ^= 1
        layout.path.write_bytes(data)
        with pytest.raises(CorruptionError, match=r"000000\.h5: the seal is damaged, but it was written whole"):
            Bench(tmp_path)
        assert layout.path.read_bytes() == data
        data[place] ^= 1
        layout.path.write_bytes(data)


def test_readers_see_the_rows_before_the_damage_in_a_sealed_shard(tmp_path: Path) -> None:
    layout, _, _ = sealed_shard(tmp_path)
    with ShardView(layout.path) as view:
        whole = view.rows
    data = bytearray(layout.path.read_bytes())
    data[layout.offsets["episodes"] + 3 * EPISODE.itemsize + 20] ^= 1
    layout.path.write_bytes(data)
    with ShardView(layout.path) as view:
        assert np.array_equal(view.rows, whole[:3])


def test_rows_of_another_shard_under_a_seal_are_refused(tmp_path: Path) -> None:
    """Each row is sound, but they are not those that the shard was sealed with."""
    layout, _, _ = sealed_shard(tmp_path)
    data = bytearray(layout.path.read_bytes())
    row = np.frombuffer(data, EPISODE, 1, layout.offsets["episodes"])[0].copy()
    row["index"] = 5000
    seal_row(row, 0)
    data[layout.offsets["episodes"] : layout.offsets["episodes"] + EPISODE.itemsize] = row.tobytes()
    layout.path.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"000000\.h5: a row is damaged, but the shard was sealed with"):
        Bench(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_no_bit_of_the_metadata_can_change_unseen(crashed: Crashed, seed: int) -> None:
    """Any single bit of what HDF5 wrote: the shard is refused, or everything lies where it lay."""
    layout = crashed.layout
    written = np.frombuffer(crashed.after, np.uint8)[: layout.offsets["episodes"]]
    rng = np.random.default_rng(seed)
    refused = 0
    for place in rng.choice(np.flatnonzero(written), 100, replace=False).tolist():
        with crashed.edit(crashed.after) as data:
            data[place] ^= 1 << int(rng.integers(8))
        try:
            found = ShardLayout.read(crashed.path)
        except DatasetError:
            refused += 1
        else:
            assert found == layout, f"byte {place}"
    assert refused > 50


def test_a_changed_offset_is_named(crashed: Crashed) -> None:
    start = crashed.layout.offsets["episodes"]
    size = (crashed.layout.capacity.episodes * EPISODE.itemsize).to_bytes(8, "little")
    place, elsewhere = start.to_bytes(8, "little") + size, (start + 4096).to_bytes(8, "little") + size
    assert crashed.after.count(place) == 1
    crashed.path.write_bytes(crashed.after.replace(place, elsewhere))
    with pytest.raises(CorruptionError, match=r"000000\.h5: .* differ from metadata_checksum; nothing was changed"):
        Bench(crashed.root)


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
