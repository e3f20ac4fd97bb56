"""Runs one program for as long as an actor wants it: python -m deploy.ray.guard FD LOCK NICE WORDS...

FD is a socket to the actor. A byte from it asks the program to stop; its end means that the actor is gone, however that
happened, and the program goes as well, with all that it started. The exit status is sent back as a line of text;
negative: the signal. Ray kills the children of a worker that it ends, so the guard is nobody's child.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

# For a program whose actor is gone to commit what is whole, before it is killed [s].
GRACE_S = 5.0
# More than GRACE_S and what Ray takes to end the worker of a node that it has given up [s].
LOCK_LIMIT_S = 60.0
_LOOK_S = 0.1
NOT_STARTED = 127
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Guard:
    """One program, in a session and process group of its own."""

    def __init__(self, actor: socket.socket) -> None:
        self._actor = actor
        self._asked = False
        self._forsaken: float | None = None  # since when the actor is gone

    def run(self, lock: str, nice: int, words: Sequence[str]) -> int:
        """To its end; returns its exit status. Not started if the actor asks for its end before."""
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._wait_for_life_before(fd):
            return -signal.SIGTERM
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=lambda: _prepare(nice),
            )
        except OSError as error:
            sys.stderr.write(f"cannot start {words[0]}: {error.strerror}\n")
            return NOT_STARTED
        self._watch(child)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it has left behind; its own process still holds the number
        return child.wait()

    def _wait_for_life_before(self, fd: int) -> bool:
        """Two lives of one sink would be at the same files. False: the actor does not want the program any more."""
        deadline = time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    sys.stderr.write(f"an earlier life of this actor has not ended within {LOCK_LIMIT_S:.0f} s\n")
                    return True
            except OSError as error:
                sys.stderr.write(f"this file system has no locks ({error.strerror}); not waiting for an earlier life\n")
                return True
            if select.select([self._actor], [], [], _LOOK_S)[0]:
                return False

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Until it has ended, not yet reaped."""
        ended, told = os.pipe()

        def wait() -> None:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            os.close(told)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        while True:
            limit = None if self._forsaken is None else max(self._forsaken + GRACE_S - time.monotonic(), 0)
            watched: list[int | socket.socket] = [ended] if self._forsaken is not None else [ended, self._actor]
            ready = select.select(watched, [], [], limit)[0]
            if ended in ready:
                break
            if not ready:
                os.killpg(child.pid, signal.SIGKILL)
                break
            self._hear()
            if not self._asked:
                self._asked = True
                child.send_signal(signal.SIGTERM)
        waiting.join()
        os.close(ended)

    def _hear(self) -> None:
        """What the actor says: to ask for the end, or by being gone."""
        try:
            heard = self._actor.recv(64)
        except OSError:
            heard = b""
        if not heard:
            self._forsaken = time.monotonic()


def _prepare(nice: int) -> None:
    """In the child: the kernel ends it should the guard be killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(nice)


def main(words: Sequence[str]) -> None:
    """Never returns."""
    if os.fork():
        os._exit(0)
    actor = socket.socket(fileno=int(words[0]))
    actor.set_inheritable(False)
    status = Guard(actor).run(words[1], int(words[2]), words[3:])
    with suppress(OSError):  # the actor is gone
        actor.sendall(f"{status}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
