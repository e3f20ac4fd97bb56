"""Rolling from shard to shard, sealing, documents, and a disk that is full."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import h5py
import pytest

from protocol.errors import DiskFullError
from protocol.layout import ShardLayout, shard_bytes
from protocol.orders import Attempt
from sink import shard_file
from sink.disk import Disk
from sink.episode import RejectedError
from sink.stream_store import NotReadyError, plan_capacity
from tests.fakes import MAX_STEPS, CheckingReader, counted_episode, counting_spec
from tests.sink.bench import SHARD_BYTES, Bench


def test_frames_of_episodes_under_way_move_to_the_next_shard(tmp_path: Path) -> None:
    """Five episodes take turns, frame by frame, over several shards."""
    with Bench(tmp_path) as bench:
        waiting = list(range(120))
        under_way: list[tuple] = []
        moved = 0
        while waiting or under_way:
            while len(under_way) < 5 and waiting:
                attempt, made = bench.begin(waiting.pop(0))
                under_way.append((attempt, made, made.messages()))
            attempt, made, left = under_way.pop(0)
            before = bench.store.active
            if left:
                bench.frames(attempt, left.pop(0))
                under_way.append((attempt, made, left))
            else:
                bench.end(attempt, made.end(), made.payload(), made.documents.values())
                bench.store.commit()
            moved += before is not bench.store.active
    assert moved >= 2
    reader = CheckingReader(tmp_path)
    assert reader.indices == list(range(120))
    assert len(reader.paths()) == moved + 1


def test_a_shard_is_sealed_only_when_no_episode_has_frames_in_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        attempt, made = bench.begin(1000)
        first = bench.store.active
        for step in made.messages()[:-1]:
            bench.frames(attempt, step)
        index = 0
        while bench.store.active.layout.number < 2:
            bench.put(index)
            index += 1
            if bench.store.preparing is not None:
                bench.store.preparing.result()  # as it is in life, long before it is needed
        assert first.open_episodes == 1
        with h5py.File(first.path, "r") as file:
            assert file["seal"][0]["row_checksum"] == 0
        bench.frames(attempt, made.messages()[-1])  # room was left for it
        bench.end(attempt, made.end(), made.payload(), made.documents.values())
        bench.store.commit()
    with h5py.File(first.path, "r") as file:
        assert file["seal"][0]["row_checksum"] != 0
    reader = CheckingReader(tmp_path)
    assert reader.indices == [*range(index), 1000]
    assert reader.stored[1000].shard == "000000.h5"


def test_an_episode_that_outgrows_its_shard_moves(tmp_path: Path) -> None:
    """The first episodes of all: nobody knows how large they become, and three times too many begin here."""
    with Bench(tmp_path) as bench:
        made = [bench.begin(index) for index in range(30) if bench.begin(index)[1].messages()]
        for step in range(MAX_STEPS):
            for attempt, episode in made:
                if step < episode.steps:
                    bench.frames(attempt, episode.messages()[step])
        moved = sum(episode.shard is bench.store.active for episode in bench.store._underway.values())
        assert moved, "nothing moved; the shard is too large for this test"
        for attempt, episode in made:
            bench.end(attempt, episode.end(), episode.payload(), episode.documents.values())
    reader = CheckingReader(tmp_path)
    assert reader.indices == sorted(episode.index for _, episode in made)
    assert len(reader.paths()) > 1


def test_sealing_gives_the_space_back(tmp_path: Path) -> None:
    size = 4 << 20
    with Bench(tmp_path, shard_bytes=size) as bench:
        path = bench.store.active.path
        reserved = os.stat(path).st_blocks * 512
        assert reserved >= shard_bytes(bench.spec, bench.store.active.capacity)
        bench.put(0, 1, 2)
        roll(bench)
        bench.store.commit()
    stat = os.stat(path)
    assert stat.st_blocks * 512 < reserved / 10
    assert stat.st_size >= size  # the space is returned, the file is not cut
    assert CheckingReader(tmp_path).indices == [0, 1, 2]


def put_all(bench: Bench, indices: Iterable[int]) -> None:
    """Whole episodes, each with a commit of its own."""
    for index in indices:
        bench.put(index)


def fill(bench: Bench, attempt: Attempt, steps: Iterable[list[bytes]]) -> None:
    """Append frames, waiting for shards."""
    for frames in steps:
        bench.frames(attempt, frames)


def append_all(bench: Bench, attempt: Attempt, steps: Iterable[list[bytes]]) -> None:
    """Append frames without waiting."""
    for frames in steps:
        bench.store.append(attempt, frames)


def roll(bench: Bench) -> None:
    """Go on with the next shard now."""
    bench.store.prepare()
    assert bench.store.preparing is not None
    bench.store.preparing.result(timeout=30)
    bench.store._roll()


def test_a_document_is_stored_once_in_every_shard_that_needs_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        index = 0
        while bench.store.active.layout.number < 2:
            bench.put(index)
            index += 1
    paths = CheckingReader(tmp_path).paths()
    assert len(paths) == 3
    for path in paths[:2]:
        with h5py.File(path, "r") as file:
            used = [bytes(row["sha256"]) for row in file["documents"][:] if row["size"]]
        assert len(used) == len(set(used)) == 3


def test_documents_are_known_after_a_restart(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.put(0, 1, 2)
    with Bench(tmp_path) as bench:
        bench.put(3, 5)
        with h5py.File(bench.store.active.path, "r") as file:
            assert sum(file["documents"]["size"] > 0) == 3
    assert CheckingReader(tmp_path).indices == [0, 1, 2, 3, 5]


def test_a_document_that_never_came_is_asked_for(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        attempt, made = bench.begin(0)
        for step in made.messages():
            bench.frames(attempt, step)
        with pytest.raises(RejectedError, match=r"index 0: document [0-9a-f]{64} was never sent"):
            bench.end(attempt, made.end(), made.payload())


def test_an_episode_larger_than_a_shard_is_refused_and_its_neighbours_go_on(tmp_path: Path) -> None:
    spec = counting_spec()
    with Bench(tmp_path, shard_bytes=8192) as bench:
        attempt, _ = bench.begin(0)
        frames = [frames[0] for frames in counted_episode(spec, 1).frames.values()]
        with pytest.raises(RejectedError, match=r"index 0: an episode of .* MB does not fit a shard of .*--shard-mib"):
            fill(bench, attempt, [frames] * 30)
        bench.store.forget(attempt)
        small = next(
            i for i in range(100) if sum(map(len, chain.from_iterable(counted_episode(spec, i).messages()))) < 2000
        )
        bench.put(small)
    assert CheckingReader(tmp_path).indices == [small]


def test_a_smaller_shard_size_after_a_restart_holds_for_new_shards(tmp_path: Path) -> None:
    with Bench(tmp_path, shard_bytes=2 * SHARD_BYTES) as bench:
        bench.put(*range(5))
    with Bench(tmp_path, shard_bytes=SHARD_BYTES) as bench:
        index = 5
        while bench.store.active.layout.number < 2:
            bench.put(index)
            index += 1
    sizes = [ShardLayout.read(path).capacity.blob_bytes for path in CheckingReader(tmp_path).paths()]
    assert sizes == [2 * SHARD_BYTES, SHARD_BYTES, SHARD_BYTES]
    assert CheckingReader(tmp_path).indices == list(range(index))


def test_the_number_of_rows_and_of_steps_may_fill_a_shard_first(tmp_path: Path) -> None:
    void = [index for index in range(7 * 300) if index % 7 == 4]
    with Bench(tmp_path, shard_bytes=64 * 1024) as bench:
        assert bench.store.active.capacity.episodes == 256
        for first in range(0, len(void), 16):
            bench.put(*void[first : first + 16])
        assert bench.store.active.layout.number == 1
    reader = CheckingReader(tmp_path)
    assert reader.indices == void
    assert sum(found.shard == "000000.h5" for found in reader.stored.values()) == 256


@pytest.mark.parametrize("size", [4096, 64 * 1024, 1 << 20, 1 << 30])
def test_a_shard_always_holds_the_longest_episode(size: int) -> None:
    for spec in (counting_spec(), counting_spec(cameras=0), counting_spec(max_steps=5000)):
        capacity = plan_capacity(spec, size)
        assert capacity.steps >= spec.max_steps
        assert capacity.blob_bytes == size
        assert capacity.documents >= 16


class CountingDisk(Disk):
    """Counts syncs."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def test_one_pair_of_syncs_serves_a_whole_group(tmp_path: Path) -> None:
    disk = CountingDisk()
    with Bench(tmp_path, disk=disk) as bench:
        before = disk.syncs
        bench.put(*range(10))
        assert disk.syncs == before + 2
        bench.store.commit()
        assert disk.syncs == before + 2


def test_a_full_disk_is_reported_when_the_next_shard_is_needed(tmp_path: Path, free: Callable[[int], None]) -> None:
    with Bench(tmp_path) as bench:
        free(0)
        waiting = iter(range(1000))
        with pytest.raises(DiskFullError, match=r"000001\.h5 needs .* MB, 0 MB are free; free some space"):
            put_all(bench, waiting)
        attempts = next(waiting) - 1
        assert CheckingReader(tmp_path).indices == list(range(attempts))
        assert not list((tmp_path / bench.spec.name).glob("*.preparing"))
        free(1 << 40)
        bench.store.look_after_preparation()
        assert bench.store.preparing is not None
        bench.store.preparing.result(timeout=30)
        attempt, made = bench.begin(attempts)
        for step in made.messages():
            bench.frames(attempt, step)
        bench.end(attempt, made.end(), made.payload(), made.documents.values())
        bench.store.commit()
    assert CheckingReader(tmp_path).indices == list(range(attempts + 1))


def test_not_ready_changes_nothing(tmp_path: Path) -> None:
    """An order that has to wait for a shard is repeated later as a whole, also when it waited many times."""
    with Bench(tmp_path) as bench:
        hold = bench.store._pool
        index = 0
        while bench.store.active.fill < 0.3:
            bench.put(index)
            index += 1
        bench.store._pool = stuck = Stuck()
        refusals = 0
        while not refusals:
            attempt, made = bench.begin(index)
            try:
                for step in made.messages():
                    bench.store.append(attempt, step)
                for name, document in zip(made.end().documents, made.documents.values(), strict=False):
                    bench.store.keep_document(name, document)
                bench.store.finish(attempt, made.end(), made.payload())
                bench.store.commit()
                index += 1
            except NotReadyError:
                refusals += 1
                bench.store.forget(attempt)
        for _ in range(5):
            attempt, made = bench.begin(index)
            with pytest.raises(NotReadyError):
                append_all(bench, attempt, made.messages() * 40)
            bench.store.forget(attempt)
        bench.store.commit()
        bench.store._pool = hold
        stuck.release(hold)
        bench.put(index)
    assert CheckingReader(tmp_path).indices == list(range(index + 1))


class Stuck:
    """An executor that does not begin."""

    def __init__(self) -> None:
        self.future: Future = Future()
        self.work: tuple | None = None

    def submit(self, function: Callable, *arguments: object) -> object:
        assert self.work is None
        self.work = (function, arguments)
        return self.future

    def release(self, pool: ThreadPoolExecutor) -> None:
        assert self.work is not None
        function, arguments = self.work
        self.future.set_result(pool.submit(function, *arguments).result(timeout=30))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes the file system says are free."""
    usage = shard_file.shutil.disk_usage

    def set_free(count: int) -> None:
        monkeypatch.setattr(shard_file.shutil, "disk_usage", lambda path: usage(path)._replace(free=count))

    return set_free


def test_a_write_in_pieces_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000))
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, offset: os.pwrite(fd, b"".join(buffers)[:7], offset))
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:1000], offset))
    disk = Disk()
    fd = disk.open(path)
    buffers = [bytes([place % 251]) * 3 for place in range(3000)]
    disk.write(fd, buffers, 11)
    disk.close(fd)
    assert path.read_bytes()[11 : 11 + 9000] == b"".join(buffers)
    assert not any(path.read_bytes()[9011:])
