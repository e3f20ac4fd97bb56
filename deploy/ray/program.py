"""The program of an actor while it runs: prepared, guarded, asked to stop; what becomes of it is reported."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from deploy.ray.orders import Orders
from deploy.ray.report import Report, read_report, report_file, write_report

INTERRUPTED = 130


class ActorProgram:
    """One life of the program of one actor. node: where it is, for people.

    over: called in a thread of its own when there is nothing to supervise any more, with the last report.
    """

    def __init__(self, orders: Orders, node: str, over: Callable[[Report], None]) -> None:
        self._orders, self._over = orders, over
        self._guard: socket.socket | None = None
        self._asked = False
        self._lock = threading.Lock()
        before = read_report(orders.folder, orders.name, orders.generation)
        self._done_before = before is not None and before.final
        life = before.life + 1 if before is not None else 1
        self.report = Report(orders.name, orders.generation, life, "RUNNING", node, time.time())
        if before is not None and before.final:
            self.report = before
        threading.Thread(target=self._run, name="program", daemon=True).start()

    def stop(self) -> None:
        """Ask it to end cleanly; may be called again."""
        with self._lock:
            if not self._asked and self._guard is not None:
                self._guard.sendall(b"T")
            self._asked = True

    def _run(self) -> None:
        try:
            if not self._done_before:
                self._tell(self.report)
                self._tell(self._live())
        except Exception as error:  # whatever it is, nothing would supervise the program any more
            traceback.print_exc()
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._over(self.report)

    def _fail(self, reason: str) -> None:
        self.report = self._end("FAILED", 1, reason)
        with suppress(OSError):  # the folder may be the reason; Ray's own log has it in any case
            write_report(self._orders.folder, self.report)

    def _live(self) -> Report:
        orders = self._orders
        with orders.log.open("ab") as log:
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            log.write(f"--- {when} life {self.report.life} of {orders.name} on {self.report.node}\n".encode())
            log.flush()
            preparation = orders.preparation()
            status = 0 if preparation is None else self._guarded(preparation, log.fileno())
            if not status:
                status = self._guarded(orders.words(), log.fileno())
        if self._asked and status == -signal.SIGTERM:
            status = INTERRUPTED  # it was not there yet, or not yet ready for a signal
        if status < 0 and not self._asked:
            return self._end("KILLED", status, f"killed by {signal.Signals(-status).name}")
        if status:
            return self._end("FAILED", status, "" if self._asked else f"exit status {status}")
        return self._end("COMPLETED", 0, "")

    def _guarded(self, words: Sequence[str], log: int) -> int:
        """Run it to its end; returns its exit status, that of SIGTERM if it was not wanted any more."""
        orders = self._orders
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                fd = theirs.fileno()
                lock = str(report_file(orders.folder, orders.name).with_suffix(".lock"))
                guarded = [sys.executable, "-m", "deploy.ray.guard", str(fd), lock, str(orders.role.nice), *words]
                started = subprocess.run(
                    guarded,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=orders.variables(os.environ),
                    cwd=orders.cwd,
                    pass_fds=[fd],
                    start_new_session=True,
                    check=False,
                )
            if started.returncode:
                return started.returncode
            return self._wait(ours)

    def _wait(self, guard: socket.socket) -> int:
        with self._lock:
            self._guard = guard
            if self._asked:
                guard.sendall(b"T")
        said = b""
        try:
            while part := guard.recv(64):
                said += part
        finally:
            with self._lock:
                self._guard = None
        # Without a word: the guard itself was killed, and its program with it.
        return int(said) if said else -signal.SIGKILL

    def _tell(self, report: Report) -> None:
        self.report = report
        write_report(self._orders.folder, report)

    def _end(self, state: Literal["COMPLETED", "FAILED", "KILLED"], status: int, reason: str) -> Report:
        return msgspec.structs.replace(self.report, state=state, exit_status=status, reason=reason, ended_s=time.time())
