"""Words to a service manager, after sd_notify(3): ready, alive, stopping, and a line of status.

Without NOTIFY_SOCKET in the environment nothing is sent. Each word is one datagram that is never waited for: a service
manager that is gone or busy costs the server nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger("headrace.daemon")

# A status line is for people who look; `systemctl status` shows the latest only.
STATUS_INTERVAL_S = 5.0
_STATUS_CHARACTERS = 500


class ServiceNotifier:
    """Speaks for one process, from one thread."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: its NOTIFY_SOCKET says where to, its WATCHDOG_USEC and WATCHDOG_PID how often a ping is due."""
        self._target = environment.get("NOTIFY_SOCKET", "")
        self._complained = False
        self.watchdog_s = self._watchdog_s(environment) if self._target else None
        self._next_ping = 0.0
        self._next_status = 0.0
        self._status = ""
        # The state that the service manager has not taken yet; unlike a ping it must not get lost.
        self._unsaid = ""

    def starting(self, status: str) -> None:
        """What is done before READY=1."""
        self._send(_status_line(status))

    def ready(self, status: str) -> None:
        """Bound: clients may come."""
        self._say(f"READY=1\n{_status_line(status)}")

    def stopping(self, status: str) -> None:
        """The drain has begun."""
        self._say(f"STOPPING=1\n{_status_line(status)}")

    def alive(self, now: float) -> None:
        """Ping the watchdog when it is due; to be called at each pass of the loop that serves. now: monotonic [s].

        A ping says that this loop runs: clients are heard and answered. It does not say that the disk of a sink takes
        data. A disk that hangs is no reason to be killed: nothing is lost while it hangs, producers keep what is not
        committed, and a new sink would hang in the same place, after a recovery. It shows in the status line instead. A
        writer thread that dies needs no watchdog either: the loop raises what the writer raised, and the process ends.
        Nor does it say that a model returns: an inference server tells `expired` meanwhile, and says it by /healthz.
        """
        if self.watchdog_s is not None and now >= self._next_ping:
            # A quarter, so that a pass that came late still leaves half of the interval.
            self._next_ping = now + self.watchdog_s / 4
            self._send("WATCHDOG=1")

    def progress(self, now: float, status: str) -> None:
        """Tell how it goes, if that has changed, every few seconds at most. now: monotonic [s]."""
        if self._unsaid:
            self._say(self._unsaid)
        elif now >= self._next_status and status != self._status:
            self._next_status, self._status = now + STATUS_INTERVAL_S, status
            self._send(_status_line(status))

    def _say(self, state: str) -> None:
        self._unsaid = "" if self._send(state) else state

    def _send(self, message: str) -> bool:
        """True unless it has to be said again."""
        if not self._target:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(errors="replace"), self._address())
        except OSError as error:
            self._complain(f"{error.strerror or error}; is the service manager gone? This goes on without it")
            return False
        return True

    def _address(self) -> bytes:
        path = os.fsencode(self._target)
        # "@" stands for the zero byte that begins an abstract name.
        return b"\0" + path[1:] if path.startswith(b"@") else path

    def _watchdog_s(self, environment: Mapping[str, str]) -> float | None:
        pid = environment.get("WATCHDOG_PID", "")
        if pid and pid != str(os.getpid()):
            return None  # the pings of another process are wanted; this one has inherited its environment
        text = environment.get("WATCHDOG_USEC", "")
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and int(text)):
            log.warning("WATCHDOG_USEC: expected microseconds, a positive integer, found %r; no pings are sent", text)
            return None
        return int(text) / 1e6

    def _complain(self, why: str) -> None:
        """Once: what is tried several times a second must not fill the log."""
        if not self._complained:
            log.warning("NOTIFY_SOCKET %s: %s", self._target, why)
        self._complained = True


def _status_line(status: str) -> str:
    """STATUS= takes one line."""
    return "STATUS=" + " ".join(status.split())[:_STATUS_CHARACTERS]
