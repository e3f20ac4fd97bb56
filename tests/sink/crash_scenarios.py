"""Histories worth cutting: everything that a sink does to its files, in one life or in several."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from protocol.spec import StreamSpec
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.lock import DirectoryLock
from sink.shard_writer import ShardWriter
from tests.fakes import counting_spec
from tests.sink.bench import Bench
from tests.sink.recording_disk import KilledError, RecordingDisk, SyncDirectory, SyncFile

SPEC = counting_spec(cameras=1, max_steps=3)
# Episodes that fit these blobs: about 3, and all of a scenario.
SMALL, LARGE = 12 << 10, 96 << 10


class _LateFuture(Future[Any]):
    """Work that is done when somebody waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def run(self) -> None:
        """Do it now, if nobody has done or cancelled it."""
        if self.done() or not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._work())
        except BaseException as error:  # as an executor does
            self.set_exception(error)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Do it, and say what it raised."""
        self.run()
        return super().exception(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Do it, and give what it returned."""
        self.run()
        return super().result(timeout)


class StepPool(Executor):
    """In place of the thread that makes and seals shards: the same order of operations in every run.

    sealed: is told of each shard that was sealed.
    """

    def __init__(self, sealed: Callable[[Path], None], late: bool = False) -> None:
        self._sealed, self._late = sealed, late
        self._waiting: list[_LateFuture] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """At once, or late: when somebody waits for it, or when asked to."""

        def work() -> Any:
            made = function(*arguments, **named)
            if isinstance(arguments[0], ShardWriter):
                self._sealed(arguments[0].path)
            return made

        future = _LateFuture(work)
        self._waiting.append(future)
        if not self._late:
            self.run()
        return future

    def run(self) -> None:
        """Do what waits."""
        while self._waiting:
            self._waiting.pop(0).run()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do what waits, as an executor does."""
        if wait and not cancel_futures:
            self.run()
        self._waiting.clear()


class World:
    """A dataset on a recorded disk, and the sink's life on it: what the writer thread does, and nobody else."""

    def __init__(self, disk: Disk, data: Path, rng: random.Random, spec: StreamSpec = SPEC) -> None:
        self.disk, self.data, self.rng, self.spec = disk, data, rng, spec
        self.bench: Bench
        self._finished: list[int] = []
        self._pool = StepPool(self._sealed)

    def _sealed(self, path: Path) -> None:
        if isinstance(self.disk, RecordingDisk):
            self.disk.sealed(path)

    def start(self, shard_bytes: int = LARGE, late: bool = False) -> None:
        """Open the dataset as a sink does when it starts."""
        lock = DirectoryLock(self.data, self.disk)
        lock.release()
        self.uuid = dataset_uuid(self.data, self.disk)
        self._finished.clear()
        self._pool = StepPool(self._sealed, late)
        self.bench = Bench(self.data, self.spec, shard_bytes, self.disk, self._pool, self.uuid)
        self._acked(list(self.bench.store.committed))  # producers that hold one of these may forget it

    def put(self, *indices: int) -> None:
        """Whole episodes, not committed yet."""
        for index in indices:
            self.bench.put(index, commit=False)
            self._finished.append(index)

    def end(self, *attempts: Any) -> None:
        """The last message of episodes under way."""
        for attempt, made in attempts:
            self.bench.end(attempt, made.end(), made.payload(), made.documents.values())
            self._finished.append(attempt.index)

    def commit(self, *indices: int) -> None:
        """Put these, commit all that is finished, and note that it is acknowledged."""
        self.put(*indices)
        self.bench.store.commit()
        self._acked(self._finished)
        self._finished.clear()

    def _acked(self, indices: Sequence[int]) -> None:
        if isinstance(self.disk, RecordingDisk):
            self.disk.acked(indices)

    def pause(self) -> None:
        """Time passes: what is done in the background may happen."""
        if self.rng.random() < 0.5:
            self._pool.run()

    def stop(self) -> None:
        """Stop cleanly."""
        self.bench.__exit__(None, None, None)

    def kill(self) -> None:
        """Die; only the process, so that what was written is there."""
        assert isinstance(self.disk, RecordingDisk)
        self._pool.shutdown(wait=False)
        self.disk.die()

    def groups(self, indices: Sequence[int], largest: int = 5) -> None:
        """Commit them in groups."""
        left = list(indices)
        while left:
            size = self.rng.randint(1, largest)
            group, left = left[:size], left[size:]
            self.commit(*group)
            self.pause()


def first_shard(world: World) -> None:
    """A new dataset, one commit, a clean stop, and a start with nothing to do."""
    world.start()
    world.commit(0, 1)
    world.stop()
    world.start()
    world.stop()


def groups(world: World) -> None:
    """Groups of several sizes, with documents and VOID."""
    world.start()
    world.groups(range(12))
    world.stop()


def wide_group(world: World) -> None:
    """Rows of one group in many sectors and two pages."""
    world.start()
    world.commit(0, 1)
    for first in (0, 30, 60):
        world.commit(*range(4 + 7 * first, 4 + 7 * (first + 30), 7))  # VOID
    world.commit(2)
    world.stop()


def interleaved(world: World) -> None:
    """Episodes that take turns; some are given up and begun again."""
    world.start()
    waiting, under_way = [0, 1, 2, 3, 5, 6, 7], []
    while waiting or under_way:
        if waiting and len(under_way) < 3:
            attempt, made = world.bench.begin(waiting.pop(0))
            under_way.append((attempt, made, made.messages()))
        attempt, made, left = under_way.pop(0)
        if left and world.rng.random() < 0.15:
            world.bench.store.forget(attempt)
            waiting.append(attempt.index)
        elif left:
            world.bench.frames(attempt, left.pop(0))
            under_way.append((attempt, made, left))
        else:
            world.end((attempt, made))
            if world.rng.random() < 0.6:
                world.commit()
    world.commit()
    world.stop()


def rolling(world: World, late: bool = False) -> None:
    """Over several shards, with a slow episode that moves from shard to shard; full shards are sealed."""
    world.start(SMALL, late)
    slow, made = world.bench.begin(20)
    left = made.messages()
    for index in range(14):
        if left and index % 5 == 2:
            world.bench.frames(slow, left.pop(0))
        world.put(index)
        if world.rng.random() < 0.7:
            world.commit()
            world.pause()
    for frames in left:
        world.bench.frames(slow, frames)
    world.end((slow, made))
    world.commit()
    world.stop()


def rolling_late(world: World) -> None:
    """The same, with shards that are made and sealed as late as can be."""
    rolling(world, late=True)


def spare(world: World) -> None:
    """Shards that are prepared and not used: removed at a stop, or by the next start; their number is used again."""
    world.start(SMALL)
    index = 0
    while world.bench.store.preparing is None:
        world.commit(index)
        index += 1
    world.stop()
    world.start(SMALL)
    world.bench.store.prepare()
    world.kill()
    world.start(SMALL)
    world.groups(range(index, index + 5), largest=2)
    world.stop()


def killed(world: World) -> None:
    """Lives that end anywhere, and starts that find what they left."""
    disk = world.disk
    assert isinstance(disk, RecordingDisk)
    for life in range(4):
        disk.kill_at = len(disk.log) + world.rng.randint(2, 60) if life < 3 else None
        with suppress(KilledError):
            world.start(SMALL, late=bool(life % 2))
            done = set(world.bench.store.committed)
            world.groups([index for index in range(10) if index not in done], largest=3)
            world.stop()
        world.kill()


def killed_at_birth(world: World) -> None:
    """Killed before it syncs a name, on the way to the first acknowledgements or to the second shard."""
    disk = world.disk
    assert isinstance(disk, RecordingDisk)
    disk.kill_at_sync = (SyncDirectory, world.rng.randrange(7))
    _two_lives(world, disk)


def killed_in_commit(world: World) -> None:
    """Killed while rows are in memory only: the next sink finds them and tells that they are committed."""
    disk = world.disk
    assert isinstance(disk, RecordingDisk)
    disk.kill_at_sync = (SyncFile, world.rng.randrange(3, 9))
    _two_lives(world, disk)


def _two_lives(world: World, disk: RecordingDisk) -> None:
    for _ in range(2):
        with suppress(KilledError):
            world.start(SMALL)
            had = set(world.bench.store.committed)
            world.groups([index for index in range(6) if index not in had], largest=2)
            world.stop()
        world.kill()
    assert disk.kill_at_sync is None


SCENARIOS: dict[str, Callable[[World], None]] = {
    "first shard": first_shard,
    "groups": groups,
    "wide group": wide_group,
    "interleaved": interleaved,
    "rolling": rolling,
    "rolling late": rolling_late,
    "spare": spare,
    "killed": killed,
    "killed at birth": killed_at_birth,
    "killed in commit": killed_in_commit,
}
