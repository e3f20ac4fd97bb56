"""One shard and its mirror: the same file, but sparse where the source has nothing committed.

The order of writes is the sink's: data, sync, rows, sync. The rows are the source's own, byte by byte, and are synced
in the source's groups, so that a power cut leaves nothing that the rules of recovery could take for damage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from protocol.errors import CorruptionError, DatasetError
from protocol.layout import EPISODE, FRAME, Rows, ShardLayout, read_rows, read_seal
from sink.disk import Disk
from sink.fault import Fault
from sink.mirror_copy import Claims, blame, copy
from sink.mirror_file import make_empty
from sink.recovery import recover
from sink.shard_audit import UnreadableError, audit_shard

# Rows that claim about so much are committed together [bytes].
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Watch:
    """Who is told, and who may stop it. advance: bytes done, bytes more to do than known before."""

    advance: Callable[[int, int], object] = lambda *_: None
    stopped: Callable[[], bool] = lambda: False


class ShardMirror:
    """`rows`: how many are mirrored. `sealed`: nothing more will come."""

    def __init__(self, disk: Disk, source: ShardLayout, path: Path, pool: ThreadPoolExecutor) -> None:
        """Open the mirror, or make it, empty. Raises DatasetError if it cannot be the mirror of `source`."""
        self.source, self.path = source, path
        self._disk, self._pool = disk, pool
        if not path.exists():
            make_empty(disk, source, path)
        self._check_layout(ShardLayout.read(path))
        self._fd = disk.open(path)
        try:
            recovered = recover(disk, self._fd, replace(source, path=path))
            self.rows, self.sealed = len(recovered.indices), recovered.sealed
            self._digest = recovered.rows_digest
            self._documents = read_rows(self._fd, source, "documents", 0)[: len(recovered.documents)]
            self._check_history()
            # Faults that rows alone do not show: a row that is damaged looks like the end of the table.
            self._faults = [] if self.sealed else table_faults(source.path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def pull(self, watch: Watch) -> int:
        """Copy what was committed since the last time; returns how many rows. Raises CorruptionError, DatasetError."""
        if self.sealed:
            return 0
        # Opened anew each time: on NFS that is what brings new bytes.
        source = os.open(self.source.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._pull(source, watch)
        except UnreadableError as error:
            raise CorruptionError(str(error)) from error
        finally:
            os.close(source)

    def _pull(self, source: int, watch: Watch) -> int:
        seal = read_seal(source, self.source)  # before the rows: if it is there, all of them are
        rows = read_rows(source, self.source, "episodes", self.rows)
        new = read_rows(source, self.source, "documents", len(self._documents))
        sizes = _row_bytes(self.source, rows)
        watch.advance(0, int(sizes.sum()))
        documents = np.concatenate([self._documents, new])
        done = 0
        while done < len(rows):
            if watch.stopped():
                return done
            count = max(int(np.searchsorted(np.cumsum(sizes[done:]), BATCH_BYTES)), 1)
            claims = Claims(self.source, self.rows, rows[done:], documents, len(self._documents)).of_first(count)
            self._copy(source, claims)
            done += len(claims.rows)
            watch.advance(int(sizes[done - len(claims.rows) : done].sum()), 0)
        if self._faults:
            raise CorruptionError(told(self._faults))
        if seal is not None:
            self._seal(seal)
        return done

    def _copy(self, source: int, claims: Claims) -> None:
        """Copy and commit. Raises CorruptionError, with whatever comes before the fault committed."""
        if not copy(self._disk, source, self._fd, claims, self._pool):
            self._commit(claims)
            return
        # A network file system may have served bytes from before the commit: look again, past its cache.
        os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED)
        fresh = os.open(self.source.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            faults = copy(self._disk, fresh, self._fd, claims, self._pool)
            if not faults:
                self._commit(claims)
                return
            if not (own := blame(fresh, claims, self._pool)):
                what = f"{self.path}: what was written is not what was read; is this disk failing? {faults[0]}"
                raise DatasetError(f"{what}; nothing of it was committed")
            first = min((fault.row for fault in own if fault.row is not None), default=claims.first)
            sound = claims.of_first(first - claims.first)
            if len(sound.rows) and not copy(self._disk, fresh, self._fd, sound, self._pool):
                self._commit(sound)
        finally:
            os.close(fresh)
        raise CorruptionError(told(own))

    def _commit(self, claims: Claims) -> None:
        self._disk.sync(self._fd)  # the data are on disk before a row can say so
        groups = claims.rows["group_first"]
        for group in np.split(claims.rows, np.flatnonzero(groups[1:] != groups[:-1]) + 1):
            data = group.tobytes()
            self._disk.write(self._fd, [data], self.source.offsets["episodes"] + self.rows * EPISODE.itemsize)
            self._disk.sync(self._fd)
            self._digest.update(data)
            self.rows += len(group)
        self._documents = claims.documents

    def _seal(self, seal: np.void) -> None:
        if self.rows != int(seal["episodes"]) or self._digest.intdigest() != int(seal["rows_checksum"]):
            raise CorruptionError(
                f"{self.source.path}: sealed with {int(seal['episodes'])} rows, but {self.rows} are sound, or they are "
                "not those that it was sealed with; `headrace verify` names the place"
            )
        self._disk.write(self._fd, [seal.tobytes()], self.source.offsets["seal"])
        self._disk.sync(self._fd)
        self.sealed = True
        self.close()

    # --- is it the mirror of this source? -------------------------------------------------------------------------

    def _check_layout(self, found: ShardLayout) -> None:
        if replace(found, path=self.source.path) != self.source:
            raise self._differs("its schema, capacities or places")

    def _check_history(self) -> None:
        """The rows that are here are the first rows of the source."""
        source = os.open(self.source.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size, start = self.rows * EPISODE.itemsize, self.source.offsets["episodes"]
            here, there = os.pread(self._fd, size, start), os.pread(source, size, start)
            seals = read_seal(self._fd, self.source), read_seal(source, self.source)
        finally:
            os.close(source)
        if here != there:
            raise self._differs("its rows")
        if self.sealed:
            if seals[0] != seals[1]:
                raise self._differs("its seal")
            self.close()

    def _differs(self, what: str) -> DatasetError:
        return DatasetError(
            f"{self.path}: {what} are not those of {self.source.path}. One of them was written to or exchanged, or the "
            f"source lost rows to a power cut before they were durable; remove {self.path} and run this again"
        )


def _row_bytes(layout: ShardLayout, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64[n]: about what each row claims."""
    step = layout.spec.row_bytes + FRAME.itemsize * len(layout.spec.cameras)
    sizes = [rows["frames_bytes"], rows["attributes_size"], rows["steps"].astype(np.int64) * step]
    total: np.ndarray[tuple[int], np.dtype[np.int64]] = np.sum([part.astype(np.int64) for part in sizes], axis=0)
    return total


def table_faults(path: Path) -> list[Fault]:
    """What is wrong with the tables of a shard. Raises CorruptionError if they cannot be read."""
    try:
        audit = audit_shard(path)
    except UnreadableError as error:
        raise CorruptionError(f"{error}; nothing of it was mirrored") from error
    audit.close()
    return audit.faults


def told(faults: list[Fault]) -> str:
    """The sentence of an error."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}; what comes before it is mirrored. Mend the source from a copy, then run this again"
