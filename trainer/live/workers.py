"""Making batches ahead, in threads or processes, and handing them over in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch.multiprocessing  # tensors go from process to process by shared memory

from protocol.errors import DatasetError
from protocol.shard_view import ShardView
from trainer.live.options import Loading
from trainer.live.plan import Request, Sign
from trainer.live.reader import Read, Reader, ReaderConfig, ReadOrder

Next = Callable[[bool], Request | Sign]
T = TypeVar("T")

_reader: Reader | None = None


def open_shard(path: Path) -> ShardView:
    """A shard that must be there. Raises DatasetError."""
    try:
        return ShardView(path)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} has disappeared; was the dataset moved?") from error


def _begin_process(config: ReaderConfig) -> None:
    global _reader
    torch.set_num_threads(1)
    _reader = Reader(config, cache(open_shard))


def _read_in_process(order: ReadOrder) -> Read:
    assert _reader is not None
    return _reader.read(order)


class Workers:
    """Who reads: nobody (then whoever asks does), threads or processes; started once, for all epochs."""

    def __init__(self, loading: Loading, config: ReaderConfig, shard_at: Callable[[Path], ShardView]) -> None:
        self._reader = Reader(config, shard_at)
        self._pool: Executor | None = None
        self._read: Callable[[ReadOrder], Read] = self._reader.read
        if loading.processes:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(loading.workers, context, _begin_process, (config,))
            self._read = _read_in_process
        elif loading.workers:
            self._pool = ThreadPoolExecutor(loading.workers, thread_name_prefix="live")

    def begin(self, order: ReadOrder) -> Future[Read]:
        """Begin to read."""
        if self._pool is not None:
            return self._pool.submit(self._read, order)
        done: Future[Read] = Future()
        done.set_result(self._read(order))
        return done

    def close(self) -> None:
        """Stop them; what is being read is waited for."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def ahead(
    following: Next, begin: Callable[[Request], Future[T]], lead: int, over: Callable[[Sign], bool]
) -> Iterator[tuple[Request, T] | Sign]:
    """Requests with what was read for them, in order, `lead` of them under way; and "epoch" where one ends.

    It ends after a sign for which `over` is true. How far ahead it is depends on counts alone, never on who was faster,
    so that all ranks ask the plan equally often.
    """
    waiting: deque[tuple[Request, Future[T]] | Sign] = deque()
    done = False
    try:
        while waiting or not done:
            while not done and len(waiting) <= lead:
                # What is ready is handed over before anyone waits for more.
                found = following(not waiting)
                if found == "wait":
                    break
                if isinstance(found, Request):
                    waiting.append((found, begin(found)))
                else:
                    waiting.append(found)
                    done = over(found)
            first = waiting.popleft()
            if isinstance(first, tuple):
                yield first[0], first[1].result()
            else:
                yield first
    finally:
        for left in waiting:
            if isinstance(left, tuple):
                left[1].cancel()
