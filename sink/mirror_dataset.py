"""A dataset and its mirror: which shards there are to mirror, and who may write to the mirror."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from protocol.dataset_view import shard_paths
from protocol.errors import DatasetError, LockedError
from protocol.flags import FLAGS_NAME, Place
from protocol.layout import EPISODE, SHARD_NAME, ShardLayout, is_sound, read_seal
from sink.dataset import IDENTITY_NAME, check_copy, stored_uuid, write_identity
from sink.disk import Disk, make_directories
from sink.lock import DirectoryLock
from sink.mirror_flags import FlagMirror
from sink.mirror_shard import ShardMirror, Watch, table_faults
from sink.shard_file import PREPARING


class Mirror:
    """Holds the lock of the mirror while it lives, so that no sink and no other mirror writes there.

    rows, shards: mirrored in all, also by earlier runs.
    """

    def __init__(self, source: Path, mirror: Path, jobs: int = 2, disk: Disk | None = None) -> None:
        """Raises ConfigurationError, DatasetError, LockedError."""
        self.source, self.mirror = source, mirror
        self.uuid = check_copy(source, mirror, "mirror")
        self._disk = disk or Disk()
        self._shards: dict[Path, ShardMirror] = {}  # by their path in the source
        self._flags: dict[Path, FlagMirror] = {}  # by their folder in the source
        self._folders: set[Path] = set()  # whose names are durable, and without drafts
        try:
            self._lock = DirectoryLock(mirror, self._disk)
        except LockedError as error:
            raise LockedError(f"{mirror} cannot be a mirror now: {error}") from error
        self._lock.say(f"mirror of {source}")
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="mirror")
        try:
            if stored_uuid(mirror) is None:
                write_identity(mirror, (source / IDENTITY_NAME).read_bytes(), self._disk)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and let others write to the mirror."""
        self._pool.shutdown()
        for shard in self._shards.values():
            shard.close()
        self._disk.stop()
        self._lock.release()

    @property
    def rows(self) -> int:
        """Committed indices in the mirror, of the shards looked at so far."""
        return sum(shard.rows for shard in self._shards.values())

    @property
    def shards(self) -> int:
        """Shards looked at so far."""
        return len(self._shards)

    def pull(self, watch: Watch | None = None) -> int:
        """Copy what was committed since the last call; returns how many rows.

        A shard that cannot be mirrored does not hold up the others. Raises CorruptionError or DatasetError, the first
        that was met, at the end.
        """
        watch = watch or Watch()
        done, errors, without = 0, [], set()
        paths = self._paths()
        # Before the rows, so that a reader of the mirror never sees an episode that was discarded before it was copied.
        for folder in dict.fromkeys(path.parent for path in paths):
            try:
                self._pull_flags(folder)
            except DatasetError as error:
                errors.append(error)
                without.add(folder)
        for path in paths:
            if watch.stopped():
                break
            if path.parent in without:
                continue
            try:
                done += self._shard(path).pull(watch)
            except DatasetError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return done

    def _paths(self) -> list[Path]:
        """The shards to mirror: of each stream up to the last one with a row or a seal.

        A later one was only prepared; the sink may take it away and put another in its place.
        """
        wanted = []
        folders: dict[Path, list[Path]] = {}
        for path in shard_paths(self.source):
            folders.setdefault(path.parent, []).append(path)
        for paths in folders.values():
            paths.sort(key=lambda path: int(path.stem))
            while paths and paths[-1] not in self._shards and not _in_use(paths[-1]):
                paths.pop()
            wanted += paths
        return wanted

    def _shard(self, path: Path) -> ShardMirror:
        shard = self._shards.get(path)
        if shard is None:
            layout = ShardLayout.read(path)
            self._check_identity(layout)
            place = self.mirror / path.relative_to(self.source)
            self._make_folder(place.parent)
            shard = self._shards[path] = ShardMirror(self._disk, layout, place, self._pool)
        return shard

    def _pull_flags(self, folder: Path) -> None:
        name = folder.relative_to(self.source)
        if folder not in self._flags:
            if not (folder / FLAGS_NAME).exists() and not (self.mirror / name / FLAGS_NAME).exists():
                return
            self._make_folder(self.mirror / name)
            place = Place(self.uuid, name.as_posix())
            self._flags[folder] = FlagMirror(self._disk, folder, self.mirror / name, place)
        self._flags[folder].pull()

    def _check_identity(self, layout: ShardLayout) -> None:
        path, name = layout.path, layout.spec.name
        if layout.dataset_uuid != self.uuid:
            raise DatasetError(
                f"{path} belongs to dataset {layout.dataset_uuid}, {self.source} is {self.uuid}; was it copied there?"
            )
        if path.parent != self.source / name or path.name != SHARD_NAME.format(layout.number):
            expected = self.source / name / SHARD_NAME.format(layout.number)
            raise DatasetError(f"{path} holds what belongs in {expected}; was it copied or renamed?")

    def _make_folder(self, folder: Path) -> None:
        """A folder of the mirror with durable names, also those that a killed mirror has left."""
        if folder in self._folders:
            return
        make_directories(self._disk, folder, below=self.mirror)
        for draft in folder.glob(f"*{PREPARING}"):
            self._disk.remove(draft)
        self._disk.sync_directory(folder)
        self._folders.add(folder)


def _in_use(path: Path) -> bool:
    """The shard has a row or is full, so that it cannot vanish any more; or it is damaged, which is told later."""
    try:
        layout = ShardLayout.read(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except DatasetError:
        return True
    try:
        first = os.pread(fd, EPISODE.itemsize, layout.offsets["episodes"])
        if is_sound(np.frombuffer(first, EPISODE)[0], 0) or read_seal(fd, layout) is not None:
            return True
    finally:
        os.close(fd)
    return bool(first.strip(b"\0") and table_faults(path))
