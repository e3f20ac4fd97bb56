"""Making batches ahead, in threads or processes, and handing them over in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
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


@contextmanager
def reading(loading: Loading, config: ReaderConfig, reader: Reader) -> Iterator[Callable[[ReadOrder], Future[Read]]]:
    """A function that begins to read; what is still being read at the end is waited for or dropped."""
    if not loading.workers:
        yield lambda order: _now(reader, order)
        return
    pool: Executor
    if loading.processes:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(loading.workers, context, _begin_process, (config,))
        read: Callable[[ReadOrder], Read] = _read_in_process
    else:
        pool, read = ThreadPoolExecutor(loading.workers, thread_name_prefix="live"), reader.read
    try:
        yield lambda order: pool.submit(read, order)
    finally:
        pool.shutdown(cancel_futures=True)


def _now(reader: Reader, order: ReadOrder) -> Future[Read]:
    done: Future[Read] = Future()
    done.set_result(reader.read(order))
    return done


def ahead(
    following: Next, begin: Callable[[Request], Future[T]], lead: int, over: Callable[[Sign], bool]
) -> Iterator[tuple[Request, T] | Sign]:
    """Requests with what was read for them, in order, `lead` of them under way; and "epoch" where one ends.

    It ends after a sign for which `over` is true. How far ahead it is depends on counts alone, never on who was faster,
    so that all ranks ask the plan equally often.
    """
    waiting: deque[tuple[Request, Future[T]] | Sign] = deque()
    done = False
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
