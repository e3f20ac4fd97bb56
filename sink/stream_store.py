"""The shards of one stream: one for new episodes, the next one in preparation, and the full ones behind.

An episode begins in the active shard and ends there. So that it can, a new episode goes to the next shard as soon as
the active one may be too small for all that are under way, each as large as the largest so far. Rolling then means to
take the next shard, which lies ready; nobody waits and nothing moves. Only if that guess was too low does an episode
wait for the next shard and have its frames copied there.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocol.checksum import Buffer
from protocol.errors import CorruptionError, DiskFullError, HeadraceError, SpecError
from protocol.interval_set import IntervalSet
from protocol.layout import SHARD_PATTERN, Capacity, ShardLayout
from protocol.messages import End
from protocol.orders import Attempt
from protocol.spec import StreamSpec, differences
from sink.disk import Disk, make_directories
from sink.episode import EpisodeUnderWay, RejectedError, column_frames
from sink.pages import PAGE
from sink.shard_file import PREPARING, create_shard
from sink.shard_writer import ShardWriter

# The next shard is made when the current one is this full: early enough, and a small dataset reserves one only.
PREPARE_AT = 0.5
# Documents are kept in memory, the least recently sent are dropped; producers send theirs again in every session.
MAX_DOCUMENTS_BYTES = 16 << 20

log = logging.getLogger("headrace.sink")


@dataclass
class _Largest:
    """The largest episode so far: blob bytes and steps."""

    blob_bytes: int = 0
    steps: int = 0


class NotReadyError(Exception):
    """The next shard is needed and not there yet; try again when the store says so."""


def plan_capacity(spec: StreamSpec, shard_bytes: int) -> Capacity:
    """How a shard of about `shard_bytes` is divided.

    Steps: as many as would come in if JPEG made frames 40 times smaller, more than it does at quality 90, so that the
    blob fills first; columns never take more than the blob.
    """
    per_step = max(spec.row_bytes, sum(camera.raw_bytes for camera in spec.cameras) // 40, 512)
    steps = max(shard_bytes // per_step, spec.max_steps)
    shard_bytes = -(-shard_bytes // PAGE) * PAGE
    return Capacity(blob_bytes=shard_bytes, steps=steps, episodes=max(256, min(steps, shard_bytes // 4096)))


class StreamStore:
    """Everything that is written for one stream. Used by the writer thread only."""

    def __init__(self, folder: Path, spec: StreamSpec, shard_bytes: int, dataset_uuid: str, disk: Disk, pool: Executor):
        """Open what is there, or create the first shard. Raises DatasetError, DiskFullError, OSError."""
        self.spec = spec
        self._folder, self._disk, self._pool, self._uuid = folder, disk, pool, dataset_uuid
        self._capacity = plan_capacity(spec, shard_bytes)
        self._documents: dict[str, bytes] = {}
        self._underway: dict[int, EpisodeUnderWay] = {}  # by attempt number
        self._full: list[ShardWriter] = []  # no new episodes begin there; some may be under way
        self._next: Future[ShardWriter] | None = None
        self._largest = _Largest()
        self._rolls: list[float] = []
        self.shortage = ""  # why the next shard could not be prepared
        self._recover()

    def _recover(self) -> None:
        # Also the names of shards: a sink may have been killed before it could sync them, and rows rely on them.
        make_directories(self._disk, self._folder, below=self._folder.parents[self.spec.name.count("/")])
        self._disk.sync_directory(self._folder)
        for draft in self._folder.glob(f"*{PREPARING}"):
            self._disk.remove(draft)
        layouts = [ShardLayout.read(path) for path in existing_shards(self._folder)]
        for layout in layouts:
            if layout.spec != self.spec:
                rows = "; ".join(differences(layout.spec, self.spec))
                raise SpecError(f"{layout.path} has another schema: {rows}")
        with ExitStack() as undo:  # a stream that cannot be recovered leaves no file open
            writers = []
            for layout in layouts:
                writers.append(ShardWriter(self._disk, layout))
                undo.callback(writers[-1].close)
            self._note_committed(writers)
            undo.pop_all()
        # An empty shard at the end was prepared for later; only one of those is kept in use at a time.
        while len(writers) > 1 and not writers[-1].rows and not writers[-2].recovered.sealed:
            spare = writers.pop()
            spare.close()
            self._disk.remove(spare.path)
        if writers and not writers[-1].recovered.sealed:
            self.active = writers.pop()
        else:
            # Never below the highest number there is, even if an earlier shard is not sealed yet.
            number = writers[-1].layout.number + 1 if writers else 0
            self.active = self._create(number)
        for writer in writers:
            if writer.recovered.sealed:
                writer.close()
            else:
                self._full.append(writer)

    def _note_committed(self, writers: Sequence[ShardWriter]) -> None:
        indices = np.concatenate([np.empty(0, np.int64), *(w.recovered.indices for w in writers)])
        succeeded = np.concatenate([np.empty(0, np.bool_), *(w.recovered.succeeded for w in writers)])
        self.committed = IntervalSet.from_array(indices)
        if len(self.committed) != len(indices):
            values, counts = np.unique(indices, return_counts=True)
            raise CorruptionError(
                f"{self._folder}: index {values[counts > 1][0]} is committed twice; was a shard copied into the "
                "folder? `headrace verify` names the places"
            )
        self.successes = IntervalSet.from_array(indices[succeeded])

    def _create(self, number: int) -> ShardWriter:
        layout = create_shard(self._folder, number, self.spec, self._capacity, self._uuid, self._disk)
        return ShardWriter(self._disk, layout)

    # --- episodes ---------------------------------------------------------------------------------------------

    def keep_document(self, sha256: str, data: bytes) -> None:
        """Remember a document, whose SHA-256 is right, until episodes refer to it."""
        self._documents.pop(sha256, None)
        self._documents[sha256] = data
        while self.documents_bytes > MAX_DOCUMENTS_BYTES:
            self.drop_document()

    @property
    def documents_bytes(self) -> int:
        """What the documents in memory take."""
        return sum(map(len, self._documents.values()))

    def drop_document(self) -> None:
        """Drop the least recently sent."""
        self._documents.pop(next(iter(self._documents)))

    def append(self, attempt: Attempt, frames: Sequence[Buffer]) -> None:
        """Write frames. Raises RejectedError, NotReadyError."""
        episode = self._episode(attempt)
        episode.check(frames)
        self._make_room(episode, sum(map(len, frames)))
        episode.append(frames)

    def finish(self, attempt: Attempt, end: End, payload: Sequence[Buffer]) -> None:
        """Write the rest of an episode; it is in the next commit. Raises RejectedError, NotReadyError."""
        episode = self._episode(attempt)
        attributes, columns = column_frames(end, payload)
        episode.check_end(end, attributes, columns)
        documents = {name: self._document(episode, name) for name in end.documents}
        size = len(attributes) + sum(map(len, documents.values()))
        self._make_room(episode, size, end.steps, len(documents))
        shard = episode.shard
        for name, data in documents.items():
            if not shard.has_document(name):
                shard.append_document(name, data)
        row = episode.row(end)
        row["first_step"] = shard.append_steps(episode.tables(), columns, end.steps) if end.steps else shard.step_tail
        row["attributes_offset"], row["attributes_size"] = shard.append_blob([attributes]), len(attributes)
        shard.add_row(row)
        self._largest.blob_bytes = max(self._largest.blob_bytes, episode.frames_bytes + size)
        self._largest.steps = max(self._largest.steps, end.steps)
        self.forget(attempt)

    def _episode(self, attempt: Attempt) -> EpisodeUnderWay:
        """What is known of an attempt; a new one begins in a shard that will have room for all of it."""
        episode = self._underway.get(attempt.number)
        if episode is None:
            others, largest = self.active.open_episodes + 1, self._largest
            if not self.active.fits(others * largest.blob_bytes, others * largest.steps, others):
                self.prepare()
                if self._next_is_there():  # else it begins in this one, and moves if it must
                    self._roll()
            episode = self._underway[attempt.number] = EpisodeUnderWay(attempt, self.spec, self.active)
        return episode

    def _document(self, episode: EpisodeUnderWay, sha256: str) -> bytes:
        data = self._documents.get(sha256)
        for shard in (episode.shard, self.active):
            if data is None and shard.has_document(sha256):
                data = shard.read_document(sha256)
        if data is None:
            why = f"index {episode.attempt.index}: document {sha256} was never sent, or its bytes have another SHA-256"
            raise RejectedError("bad_message", why)
        return data

    def forget(self, attempt: Attempt) -> None:
        """Drop an attempt; its frames stay behind as unused bytes."""
        episode = self._underway.pop(attempt.number, None)
        if episode is not None:
            episode.leave()

    # --- shards -----------------------------------------------------------------------------------------------

    def _make_room(self, episode: EpisodeUnderWay, size: int, steps: int = 0, documents: int = 0) -> None:
        """See that this much more of the episode fits its shard; else it moves to the active one."""
        if not episode.shard.fits(size, steps, 1, documents):
            if episode.shard is self.active or not self.active.fits(episode.frames_bytes + size, steps, 1, documents):
                self._check_fits_empty(episode, size)
                self._roll()
            episode.move(self.active)
        if self.active.fill >= PREPARE_AT:
            self.prepare()

    def _check_fits_empty(self, episode: EpisodeUnderWay, size: int) -> None:
        total = episode.frames_bytes + size
        if total > self._capacity.blob_bytes:
            raise RejectedError(
                "bad_message",
                f"index {episode.attempt.index}: an episode of {total / 1e6:.0f} MB does not fit a shard of "
                f"{self._capacity.blob_bytes / 1e6:.0f} MB; start the sink with a larger --shard-mib",
            )

    def prepare(self) -> None:
        """Begin to make the next shard in the background, if that has not happened yet."""
        if self._next is None:
            self._next = self._pool.submit(self._create, self.active.layout.number + 1)

    def look_after_preparation(self) -> None:
        """See whether the next shard could be prepared, and try again if the disk was full."""
        if self._next is None or not self._next.done():
            return
        error = self._next.exception()
        self.shortage = str(error) if isinstance(error, DiskFullError) else ""
        if self.shortage:
            self._next = None
            self.prepare()

    def _roll(self) -> None:
        """Go on with the next shard. Raises NotReadyError; DiskFullError or OSError if it could not be made."""
        began = time.monotonic()
        self.prepare()
        assert self._next is not None
        if not self._next.done():
            if self.shortage:  # the last try failed, and the one that runs has nothing to say yet
                raise DiskFullError(self.shortage)
            raise NotReadyError
        shard = self._next.result()
        self._next, self.shortage = None, ""
        self._full.append(self.active)
        self.active = shard
        self._rolls.append(time.monotonic() - began)

    def _next_is_there(self) -> bool:
        return self._next is not None and self._next.done() and self._next.exception() is None

    def take_rolls(self) -> list[float]:
        """How long each roll since the last call held the writer up [s]."""
        taken, self._rolls = self._rolls, []
        return taken

    @property
    def next_is_ready(self) -> bool:
        """An order that waits for the next shard can be tried again."""
        return self._next is not None and self._next.done() and not isinstance(self._next.exception(), DiskFullError)

    @property
    def preparing(self) -> Future[ShardWriter] | None:
        """The next shard, while it is being made or waits to be used."""
        return self._next

    def commit(self) -> int:
        """Make all finished episodes durable; returns how many. Full shards that nobody needs any more are sealed."""
        count = sum(shard.commit() for shard in (*self._full, self.active))
        for shard in [s for s in self._full if not s.open_episodes]:
            self._full.remove(shard)
            self._pool.submit(_seal, shard).add_done_callback(_log_failure)
        return count

    def close(self) -> None:
        """Commit, and remove a next shard that was not needed."""
        self.commit()
        for episode in self._underway.values():
            episode.leave()
        for shard in self._full:
            _seal(shard)
        if self._next is not None and not self._next.cancel():
            # It may have failed on a full disk; then there is nothing to remove.
            with suppress(OSError, HeadraceError):
                spare = self._next.result()
                spare.close()
                self._disk.remove(spare.path)
        self.active.close()


def existing_shards(folder: Path) -> list[Path]:
    """The shards of a stream in order of their numbers."""
    files = [path for path in folder.glob("*.h5") if path.is_file()]
    found = {int(match[1]): path for path in files if (match := re.fullmatch(SHARD_PATTERN, path.name))}
    return [found[number] for number in sorted(found)]


def _log_failure(sealing: Future[None]) -> None:
    error = sealing.exception()
    if error is not None:  # nothing is lost: the shard stays as it is, and the next start seals it
        log.error("a full shard could not be sealed: %s", error)


def _seal(shard: ShardWriter) -> None:
    shard.seal()
    shard.close()
