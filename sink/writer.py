"""The writer thread: takes orders, writes, commits in groups, and reports what became of each.

It owns all stores, so that nothing about the disk needs a lock. Whatever it cannot do for one stream (a full disk, a
shard that is still being prepared) waits in that stream's own queue, bounded by the credit of its producers; the other
streams go on. An error of the disk itself ends the sink: the dataset is whole at every instant, a start recovers it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from protocol.checksum import Buffer
from protocol.errors import DatasetError, DiskFullError, HeadraceError
from protocol.orders import Append, Attempt, Finish, Forget, Keep, OpenStream, Order
from protocol.spec import StreamSpec
from serving.limited_log import LimitedLog
from sink.disk import Disk
from sink.episode import RejectedError
from sink.reports import (
    CommitDone,
    CommittedEpisode,
    Consumed,
    Opened,
    OpenFailed,
    Rejected,
    Report,
    Rolled,
    Short,
    Stalled,
    WriterFailed,
)
from sink.stream_store import NotReadyError, StreamStore

log = logging.getLogger("headrace.sink")

# A group is committed when nothing more is waiting, or when one of these is reached.
MAX_GROUP = 64
MAX_GROUP_DELAY_S = 0.05
# Payload that was consumed is told of in such portions while more is waiting: each costs the other thread a wake-up.
TELL_BYTES = 2 << 20
MAX_ALL_DOCUMENTS_BYTES = 32 << 20
# How often it is seen whether the next shards could be prepared; tried again on a full disk.
LOOK_AFTER_SHARDS_S = 1.0


@dataclass
class _Item:
    order: Order
    payload: Sequence[Buffer]
    arrived: float


class Writer:
    """A thread that turns orders into a durable dataset. `reports` are announced through `wake_fd` (an eventfd)."""

    def __init__(self, root: Path, shard_bytes: int, dataset_uuid: str, disk: Disk | None = None) -> None:
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._close_wake_fd = weakref.finalize(self, os.close, self.wake_fd)
        self._root, self._shard_bytes, self._uuid = root, shard_bytes, dataset_uuid
        self._disk = disk or Disk()
        self._orders: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._reports: deque[Report] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._stores: dict[str, StreamStore] = {}
        self._stalled: dict[str, deque[_Item]] = {}
        self._look_at = 0.0
        self._untold = 0
        self._shortages: dict[str, str] = {}
        self._stopping = False
        # When the thread took up what it is doing now (monotonic); None while it waits for orders.
        self._busy_since: float | None = None
        self._log = LimitedLog(log)  # for what strangers cause
        self._dead: set[int] = set()
        self._group: list[tuple[_Item, Finish]] = []
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, order: Order, payload: Sequence[Buffer] = ()) -> None:
        """Hand over an order with its payload; the buffers must stay valid until they are consumed."""
        self._orders.put(_Item(order, payload, time.monotonic()))

    def busy_s(self, now: float) -> float:
        """How long the thread has been carrying out one order, with its commit [s]; long means a disk that hangs."""
        since = self._busy_since
        return 0.0 if since is None else now - since

    def take_reports(self) -> list[Report]:
        """What has happened since the last call."""
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            return []
        return self._drain_reports()

    def stop(self) -> list[Report]:
        """Commit what is whole, close everything, wait for it, and return the last reports. May be called again."""
        if self._thread.is_alive():
            self._orders.put(None)
            self._thread.join()
        self._close_wake_fd()
        return self._drain_reports()

    def _drain_reports(self) -> list[Report]:
        taken = []
        while self._reports:
            taken.append(self._reports.popleft())
        return taken

    # --- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
            for store in self._stores.values():
                store.close()
        except BaseException as error:  # the sink raises it in its own thread and stops
            self._report(WriterFailed(error))
        finally:
            self._pool.shutdown(wait=True)
            self._disk.stop()

    def _loop(self) -> None:
        while True:
            self._busy_since = None
            item = self._next_item()
            self._busy_since = time.monotonic()
            if item is not None:
                self._try(item)
            oldest = self._group[0][0].arrived if self._group else float("inf")
            full = len(self._group) >= MAX_GROUP or time.monotonic() - oldest > MAX_GROUP_DELAY_S
            if self._group and (full or self._orders.empty()):
                self._commit()
            if any(self._stores[stream].next_is_ready for stream in self._stalled):
                self._retry_stalled()
            if time.monotonic() >= self._look_at:
                self._look_after_shards()
            if self._untold and (self._untold >= TELL_BYTES or self._orders.empty()):
                self._tell()
            if item is None and self._stopping:
                return

    def _next_item(self) -> _Item | None:
        if self._stopping:
            return None
        waiting = bool(self._stalled)
        try:
            item = self._orders.get(timeout=0.02 if waiting else 1.0)
        except queue.Empty:
            return None
        if item is None:
            self._stopping = True
        return item

    def _try(self, item: _Item) -> None:
        """Carry an order out, or park it behind the others of its stream that wait."""
        stream = _stream_of(item.order)
        if stream in self._stalled and not isinstance(item.order, OpenStream):
            self._stalled[stream].append(item)
            return
        try:
            self._carry_out(item)
        except NotReadyError:
            self._stalled[stream] = deque([item])
        except DiskFullError as error:
            self._stalled[stream] = deque([item])
            self._report(Stalled(stream, str(error)))

    def _retry_stalled(self) -> None:
        for stream in list(self._stalled):
            parked = self._stalled.pop(stream)
            while parked and stream not in self._stalled:
                self._try(parked.popleft())
            if stream in self._stalled:
                self._stalled[stream].extend(parked)
            else:
                self._report(Stalled(stream, ""))

    def _look_after_shards(self) -> None:
        self._look_at = time.monotonic() + LOOK_AFTER_SHARDS_S
        for stream, store in self._stores.items():
            store.look_after_preparation()
            if store.shortage != self._shortages.get(stream, ""):
                self._shortages[stream] = store.shortage
                if store.shortage and stream in self._stalled:  # it waits for the very shard that cannot be made
                    self._report(Stalled(stream, store.shortage))
                self._report(Short(stream, store.shortage))

    def _carry_out(self, item: _Item) -> None:
        order = item.order
        match order:
            case OpenStream():
                self._open(order.spec)
            case Keep():
                self._keep(order, bytes(item.payload[0]))
            case Append():
                self._append(order, item)
            case Finish():
                self._finish(order, item)
            case Forget():
                self._dead.discard(order.attempt.number)
                self._stores[order.attempt.stream].forget(order.attempt)

    def _open(self, spec: StreamSpec) -> None:
        try:
            folder = self._root / spec.name
            store = StreamStore(folder, spec, self._shard_bytes, self._uuid, self._disk, self._pool)
        except (HeadraceError, OSError) as error:
            if isinstance(error, DatasetError):
                raise
            self._report(OpenFailed(spec.name, str(error)))
            return
        self._stores[spec.name] = store
        self._report(Opened(spec, store.committed, store.successes))

    def _keep(self, order: Keep, document: bytes) -> None:
        if hashlib.sha256(document).hexdigest() == order.sha256:
            self._stores[order.stream].keep_document(order.sha256, document)
            # Of all streams together: the one that has the most gives way, so that no stream can drive out another.
            while sum(store.documents_bytes for store in self._stores.values()) > MAX_ALL_DOCUMENTS_BYTES:
                max(self._stores.values(), key=lambda store: store.documents_bytes).drop_document()
        else:  # the End that refers to it will be rejected
            text = "%s: a document came that is not %s; it was dropped"
            self._log.warning("document", text, order.stream, order.sha256)
        self._report(Consumed(order.stream, order.session, order.size, 0))

    def _append(self, order: Append, item: _Item) -> None:
        frames = 0
        if order.attempt.number not in self._dead:
            try:
                self._stores[order.attempt.stream].append(order.attempt, _split(item.payload[0], order.sizes))
                frames = len(order.sizes)
            except RejectedError as error:
                self._reject(order.attempt, error)
        self._report(Consumed(order.attempt.stream, order.attempt.session, order.size, frames))

    def _finish(self, order: Finish, item: _Item) -> None:
        if order.attempt.number in self._dead:
            self._dead.discard(order.attempt.number)
        else:
            try:
                self._stores[order.attempt.stream].finish(order.attempt, order.end, item.payload)
                self._group.append((item, order))
                return
            except RejectedError as error:
                self._reject(order.attempt, error)
                self._dead.discard(order.attempt.number)
        self._report(Consumed(order.attempt.stream, order.attempt.session, order.size, 0))

    def _reject(self, attempt: Attempt, error: RejectedError) -> None:
        self._dead.add(attempt.number)
        self._stores[attempt.stream].forget(attempt)
        self._report(Rejected(attempt, error.code, str(error)))

    def _commit(self) -> None:
        began = time.monotonic()
        for name, store in self._stores.items():
            store.commit()
            for seconds in store.take_rolls():
                self._report(Rolled(name, seconds))
        now = time.monotonic()
        for item, order in self._group:
            attempt, end = order.attempt, order.end
            self._report(CommittedEpisode(attempt, end.outcome, end.steps, now - item.arrived))
            self._report(Consumed(attempt.stream, attempt.session, order.size, 0))
        self._report(CommitDone(len(self._group), now - began))
        self._group.clear()

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        if isinstance(report, Consumed):
            self._untold += report.size
        else:
            self._tell()

    def _tell(self) -> None:
        self._untold = 0
        os.eventfd_write(self.wake_fd, 1)


def _split(payload: Buffer, sizes: Sequence[int]) -> list[memoryview]:
    """The JPEGs of a message."""
    view = memoryview(payload)
    ends = list(accumulate(sizes))
    return [view[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _stream_of(order: Order) -> str:
    match order:
        case OpenStream():
            return order.spec.name
        case Keep():
            return order.stream
        case _:
            return order.attempt.stream
