"""Starts workers, restarts the dead, stops them cleanly. Processes are spawned: OpenGL does not survive fork."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.synchronize import Event

from producers.job import Job, Report, WorkerStats
from protocol.errors import HeadraceError

log = logging.getLogger("headrace.producers")

# linux/prctl.h: the kernel signals the child when its parent dies, however that happens.
_PR_SET_PDEATHSIG = 1
# A worker that dies this often in a row without an episode will not do better the next time.
MAX_CRASHES = 5
RESTART_DELAY_S = 1.0
STOP_LIMIT_S = 20.0

# A worker's threads share one line to the supervisor.
_sending = threading.Lock()

Entry = Callable[[Job, "Channel"], None]


class StopRequestedError(HeadraceError):
    """The supervisor asked this worker to stop."""


class WorkerError(HeadraceError):
    """A worker cannot go on, and neither can its like."""


@dataclass(frozen=True)
class Channel:
    """A worker's line to its supervisor."""

    connection: Connection
    stop: Event

    def check(self) -> None:
        """Raise StopRequestedError if the supervisor wants this worker to stop."""
        if self.stop.is_set():
            raise StopRequestedError("stop requested")

    def send(self, report: Report) -> None:
        """Report, from any thread; a supervisor that is gone is no error, the kernel is about to end us."""
        with _sending, suppress(BrokenPipeError):
            self.connection.send(report)


class ChannelHandler(logging.Handler):
    """Sends what a worker logs to its supervisor, which alone writes to the terminal."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._channel.send(Report("log", self.format(record)))


@dataclass
class Worker:
    """One worker as the supervisor sees it; `stats` sums up its earlier lives."""

    job: Job
    state: str = "starting"
    restarts: int = 0
    crashes: int = 0
    stats: WorkerStats = field(default_factory=WorkerStats)
    finished: bool = False
    process: SpawnProcess | None = None
    connection: Connection | None = None
    restart_at: float = 0.0


class Supervisor:
    """Runs one worker a job until all are done."""

    def __init__(self, entry: Entry, jobs: Sequence[Job]) -> None:
        self._entry = entry
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self.workers = [Worker(job) for job in jobs]
        self._error: str | None = None

    def stop(self) -> None:
        """Ask the workers to stop: what is whole is still committed. May be called from a signal handler."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """stop() was called."""
        return self._stop.is_set()

    def run(self, on_change: Callable[[], None]) -> None:
        """Until every worker is done or stopped. Raises WorkerError if one reports that it cannot go on."""
        stop_deadline = float("inf")
        try:
            while not all(worker.finished for worker in self.workers):
                self._start_missing()
                self._listen()
                on_change()
                if self._error is not None:
                    raise WorkerError(self._error)
                if self.stopping and stop_deadline == float("inf"):
                    stop_deadline = time.monotonic() + STOP_LIMIT_S
                if time.monotonic() > stop_deadline:
                    log.warning("workers did not stop within %.0f s and are ended", STOP_LIMIT_S)
                    return
        finally:
            self._end_all()

    def _start_missing(self) -> None:
        for worker in self.workers:
            if worker.process is None and not worker.finished:
                if self.stopping:
                    worker.finished = True
                elif time.monotonic() >= worker.restart_at:
                    self._start(worker)

    def _start(self, worker: Worker) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        channel = Channel(theirs, self._stop)
        worker.process = self._context.Process(
            target=_child, args=(self._entry, worker.job, channel, os.getpid()), name=worker.job.name
        )
        worker.process.start()
        theirs.close()
        worker.connection, worker.state = ours, "starting"

    def _listen(self) -> None:
        lines = [worker.connection for worker in self.workers if worker.connection is not None]
        ready = wait(lines, timeout=0.2) if lines else []
        if not lines:
            time.sleep(0.1)  # all of them wait for their restart
        for worker in self.workers:
            if worker.connection is None or worker.connection not in ready:
                continue
            try:
                self._hear(worker, worker.connection.recv())
            except (EOFError, ConnectionResetError):
                self._bury(worker)

    def _hear(self, worker: Worker, report: Report) -> None:
        match report.kind:
            case "state":
                worker.state = report.text
            case "stats" if report.stats is not None:
                worker.stats = report.stats
                worker.crashes = 0
            case "log":
                log.warning("%s: %s", worker.job.name, report.text)
            case "said":
                log.info("%s: %s", worker.job.name, report.text)
            case "error":
                self._error = f"{worker.job.name}: {report.text}"
            case _:
                raise AssertionError(report)

    def _bury(self, worker: Worker) -> None:
        assert worker.process is not None
        assert worker.connection is not None
        worker.process.join()
        worker.connection.close()
        status = worker.process.exitcode
        worker.process = worker.connection = None
        if status == 0 or self.stopping:
            worker.finished, worker.state = True, "done"
            return
        worker.restarts += 1
        worker.crashes += 1
        worker.state = "restarting"
        worker.restart_at = time.monotonic() + RESTART_DELAY_S
        log.warning("%s died (%s); it is started again", worker.job.name, _describe(status))
        if worker.crashes >= MAX_CRASHES:
            self._error = f"{worker.job.name} died {worker.crashes} times in a row without finishing an episode"

    def _end_all(self) -> None:
        for worker in self.workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.join()
            if worker.connection is not None:
                worker.connection.close()


def _describe(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def _child(entry: Entry, job: Job, channel: Channel, parent: int) -> None:
    """The worker process. Ctrl-C in a terminal reaches it too, but stopping is the supervisor's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the supervisor died before the kernel knew
    os.nice(job.nice)
    logging.getLogger().addHandler(ChannelHandler(channel))
    try:
        entry(job, channel)
    except StopRequestedError:
        return
    except HeadraceError as error:
        channel.send(Report("error", str(error)))
        raise SystemExit(2) from error
