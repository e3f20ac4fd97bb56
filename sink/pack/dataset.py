"""Which shards of a dataset are packed, and how a packed one takes its place: whole, compared, and by one rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from protocol.dataset_view import shard_paths
from protocol.errors import DatasetError, LockedError
from protocol.flags import FLAGS_NAME, Place
from protocol.layout import ShardLayout
from protocol.shard_view import ShardView
from sink.dataset import IDENTITY_NAME, check_copy, stored_uuid, write_identity
from sink.disk import Disk, make_directories
from sink.lock import LOCK_NAME, DirectoryLock
from sink.mirror_flags import FlagMirror
from sink.pack.compare import compare
from sink.pack.encoder import Quality
from sink.pack.shard import Work, check_sound, write_packed
from sink.shard_writer import ShardWriter

PACK_LOCK_NAME = "pack.lock"
# Endings of a packed shard that is being made, and of the shard that it was made of.
DRAFT, ORIGINAL = ".packing", ".original"
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Plan:
    """out: directory of the packed copy; None: in place. delete: originals, once the packed shard was compared.

    on_frames: told how many frames are done, and how many more there are to do than known before.
    """

    root: Path
    out: Path | None
    delete: bool
    quality: Quality
    jobs: int
    on_frames: Callable[[int, int], object] = lambda *_: None


@dataclass
class PackReport:
    """What one run did. Shards by path; source_bytes, packed_bytes: on the disk, of those packed in this run.

    same: without video, for they have no cameras or would not be smaller. unsealed: not packed, may still grow.
    """

    packed: list[Path] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    same: list[Path] = field(default_factory=list)
    unsealed: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    kept: list[Path] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    source_bytes: int = 0
    packed_bytes: int = 0
    psnr_db: list[float] = field(default_factory=list)


def pack(plan: Plan) -> PackReport:
    """Pack all full shards; one that cannot be packed does not hold up the others. Raises DatasetError, LockedError."""
    report, disk = PackReport(), Disk()
    if plan.out is not None:
        check_copy(plan.root, plan.out, "packed copy")
    elif stored_uuid(plan.root) is None:
        raise DatasetError(f"{plan.root}: expected {IDENTITY_NAME} and shards like STREAM/000000.h5; found none")
    target, name = (plan.root, PACK_LOCK_NAME) if plan.out is None else (plan.out, LOCK_NAME)
    try:
        lock = DirectoryLock(target, disk, name)
    except LockedError as error:
        raise LockedError(f"{target} cannot be written now: {error}") from error
    pool = ThreadPoolExecutor(plan.jobs, thread_name_prefix="pack")
    try:
        lock.say(f"pack of {plan.root}")
        if plan.out is not None and stored_uuid(plan.out) is None:
            write_identity(plan.out, (plan.root / IDENTITY_NAME).read_bytes(), disk)
        run = _Run(plan, report, disk, pool)
        for path in shard_paths(plan.root):
            try:
                run.take(path)
            except DatasetError as error:
                report.failed[path] = str(error)
        if plan.out is not None:
            _copy_flags(plan, disk, report)
    finally:
        pool.shutdown(cancel_futures=True)
        disk.stop()
        lock.release()
    return report


def _copy_flags(plan: Plan, disk: Disk, report: PackReport) -> None:
    """What was said of episodes holds of the packed ones too; in place the file stays where it is."""
    uuid = stored_uuid(plan.root)
    assert plan.out is not None
    assert uuid is not None
    for folder in sorted({path.parent for path in shard_paths(plan.root)}):
        name = folder.relative_to(plan.root)
        if (folder / FLAGS_NAME).exists() and (plan.out / name).is_dir():
            try:
                FlagMirror(disk, folder, plan.out / name, Place(uuid, name.as_posix())).pull()
            except DatasetError as error:
                report.failed[folder / FLAGS_NAME] = str(error)


def finish(root: Path) -> list[Path]:
    """Seal the shards that may still grow, for nothing more will come; returns them. Raises LockedError."""
    lock, disk, sealed = DirectoryLock(root), Disk(), []
    try:
        for path in shard_paths(root):
            writer = ShardWriter(disk, ShardLayout.read(path))
            try:
                if writer.rows and not writer.recovered.sealed:
                    writer.seal()
                    sealed.append(path)
            finally:
                writer.close()
    finally:
        disk.stop()
        lock.release()
    return sealed


def disk_bytes(path: Path) -> int:
    """What a file takes on the disk."""
    return path.stat().st_blocks * 512


class _Run:
    def __init__(self, plan: Plan, report: PackReport, disk: Disk, pool: ThreadPoolExecutor) -> None:
        self._plan, self._report, self._disk, self._pool = plan, report, disk, pool
        self._folders: set[Path] = set()

    def take(self, path: Path) -> None:
        """One shard. Raises DatasetError."""
        with suppress(FileNotFoundError), ShardView(path) as source:  # a sink removes the empty one at the end
            if not source.sealed:
                self._report.unsealed += [path] if len(source) else []
                return
            target = self._target(path)
            if self._plan.out is not None and target.exists():
                self._check_is_copy(source, target)
                self._report.there.append(target)
            elif source.packing is not None or not source.cameras:
                self._keep(source, target)
            else:
                self._pack(source, target)

    def _target(self, path: Path) -> Path:
        target = path if self._plan.out is None else self._plan.out / path.relative_to(self._plan.root)
        if target.parent not in self._folders:
            make_directories(self._disk, target.parent, below=self._plan.out or self._plan.root)
            for draft in target.parent.glob(f"*{DRAFT}"):  # of a run that was killed
                self._disk.remove(draft)
            self._folders.add(target.parent)
        return target

    # --- packing --------------------------------------------------------------------------------------------------

    def _pack(self, source: ShardView, target: Path) -> None:
        path, draft = source.layout.path, target.with_name(target.name + DRAFT)
        frames = int(source.rows["steps"].sum()) * len(source.cameras)
        self._plan.on_frames(0, 2 * frames)
        work = self._work()
        check_sound(path, self._pool)
        with _removed_on_error(self._disk, draft):
            write_packed(path, draft, work)
            with ShardView(draft) as packed:
                found = compare(source, packed, work)
            before, after = disk_bytes(path), disk_bytes(draft)
            if after >= before:
                self._disk.remove(draft)
                self._keep(source, target)
                return
            self._put_in_place(draft, target)
        self._report.packed.append(target)
        self._report.source_bytes += before
        self._report.packed_bytes += after
        self._report.psnr_db += found

    def _put_in_place(self, draft: Path, target: Path) -> None:
        """The order matters: at every instant there is a whole shard of this name, and until the end its original."""
        if self._plan.out is None:
            original = target.with_name(target.name + ORIGINAL)
            _link(target, original)
        self._disk.rename(draft, target)
        self._disk.sync_directory(target.parent)
        if self._plan.out is None:
            self._finish_original(original)

    def _finish_original(self, original: Path) -> None:
        if not self._plan.delete:
            self._report.kept.append(original)
            return
        self._disk.remove(original)
        self._disk.sync_directory(original.parent)
        self._report.deleted.append(original)

    # --- what is not packed ---------------------------------------------------------------------------------------

    def _keep(self, source: ShardView, target: Path) -> None:
        """In place it stays; in a copy it is there too, as it is."""
        path = source.layout.path
        if self._plan.out is not None:
            draft = target.with_name(target.name + DRAFT)
            with _removed_on_error(self._disk, draft):
                _copy_file(self._disk, path, draft)
                check_sound(draft, self._pool)
                self._put_in_place(draft, target)
        original = target.with_name(target.name + ORIGINAL)
        if source.packing is None:
            self._report.same.append(target)
            return
        self._report.there.append(target)
        if self._plan.out is None and original.exists():
            if self._plan.delete:  # compared once more: much may have happened since
                self._plan.on_frames(0, int(source.rows["steps"].sum()) * len(source.cameras))
                with ShardView(original) as before:
                    compare(before, source, self._work())
            self._finish_original(original)

    def _check_is_copy(self, source: ShardView, target: Path) -> None:
        with ShardView(target) as there:
            if not source.is_same_as(there):
                raise DatasetError(
                    f"{target} has other episodes than {source.layout.path}; remove it and run this again, or choose "
                    "another --out"
                )

    def _work(self) -> Work:
        plan = self._plan
        return Work(self._disk, self._pool, plan.jobs, plan.quality, lambda done: plan.on_frames(done, 0))


def _link(target: Path, original: Path) -> None:
    """Give a shard a second name. Raises DatasetError if that is another file's."""
    if not original.exists():
        os.link(target, original)
    elif not original.samefile(target):  # else: a run was killed between this and the rename
        raise DatasetError(f"{original} is there already, and is not {target}; move it away, then run this again")


@contextmanager
def _removed_on_error(disk: Disk, draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if draft.exists():
            disk.remove(draft)
        raise


def _copy_file(disk: Disk, source: Path, copy: Path) -> None:
    """All bytes, holes as holes; synced."""
    with ExitStack() as undo:
        there = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, there)
        here = disk.open(copy, create=True)
        undo.callback(disk.close, here)
        end = os.fstat(there).st_size
        os.ftruncate(here, end)
        for first, last in _extents(there, end):
            for at in range(first, last, _PIECE_BYTES):
                disk.write(here, [os.pread(there, min(_PIECE_BYTES, last - at), at)], at)
        disk.sync(here)


def _extents(fd: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is not a hole."""
    last = 0
    while last < end:
        try:
            first = os.lseek(fd, last, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        last = os.lseek(fd, first, os.SEEK_HOLE)
        yield first, last
