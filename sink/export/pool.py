"""Processes that write episodes. They end with the process that started them, however that ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import HeadraceError
from sink.export.episode import Reader
from sink.export.plan import Done, Entry

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from sink.export.formats import Writer

# linux/prctl.h: the kernel signals the child when its parent dies, however that happens.
_PR_SET_PDEATHSIG = 1
_LOOK_AGAIN_S = 0.2


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    busy: bool = False


class Pool:
    """Workers that read a dataset and write to a folder. With one worker everything happens in this process."""

    def __init__(self, root: Path, folder: Path, workers: int) -> None:
        self._root, self._folder = root, folder
        self._count = workers
        self._workers: list[_Worker] = []
        self._reader = Reader(root)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()
        for worker in self._workers:
            worker.connection.close()
            if worker.busy:  # after an error; the others end by themselves
                worker.process.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def write(self, writer: Writer, entries: Sequence[Entry], stopped: Callable[[], bool]) -> Iterator[Done]:
        """Write episodes, each once, and tell of each when it is whole; the order is that of getting ready.

        stopped: no other episode is begun once it is true. Raises the first error that a worker has.
        """
        if self._count == 1 or len(entries) == 1:
            for entry in entries:
                if stopped():
                    return
                yield _write(self._reader, self._folder, writer, entry)
            return
        yield from self._share(writer, deque(entries), stopped)

    def _share(self, writer: Writer, left: deque[Entry], stopped: Callable[[], bool]) -> Iterator[Done]:
        while len(self._workers) < min(self._count, len(left)):
            self._workers.append(_start(self._root, self._folder))
        while True:
            for worker in self._workers:
                if left and not worker.busy and not stopped():
                    worker.connection.send((writer, left.popleft()))
                    worker.busy = True
            busy = {worker.connection: worker for worker in self._workers if worker.busy}
            if not busy:
                return
            for ready in wait(list(busy), _LOOK_AGAIN_S):
                worker = busy[ready]  # type: ignore[index]  # only connections were given to it
                yield _receive(worker)


def _receive(worker: _Worker) -> Done:
    try:
        found = worker.connection.recv()
    except EOFError as error:
        worker.process.join()
        status = worker.process.exitcode
        raise HeadraceError(
            f"a worker of the export ended with status {status}, its error is above if it has one; -9 often means that "
            "memory ran out: then use fewer --workers. The same command goes on"
        ) from error
    worker.busy = False
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, Done)
    return found


def _start(root: Path, folder: Path) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, root, folder, os.getpid()), name="export", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, root: Path, folder: Path, parent: int) -> None:
    """A worker process. What stops the parent may reach it too, but the episode under way is finished first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the kernel knew
    with Reader(root) as reader:
        while True:
            try:
                writer, entry = connection.recv()
            except EOFError:
                return
            try:
                done: Done | Exception = _write(reader, folder, writer, entry)
            except (HeadraceError, OSError) as error:
                done = error
            connection.send(done)


def _write(reader: Reader, folder: Path, writer: Writer, entry: Entry) -> Done:
    written = writer.write(reader.episode(entry))
    return Done(entry, written, {name: (folder / name).stat().st_size for name in written.files})
