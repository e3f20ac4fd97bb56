"""Who may connect: a thread that answers ZeroMQ's question about every new connection (ZAP, RFC 27).

libzmq asks at inproc://zeromq.zap.01 of the socket's context before it takes a message of the connection. With
ZAP_ENFORCE_DOMAIN it lets nobody in while nobody answers there, so a thread that has died lets nobody in either.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils import z85

from protocol.errors import ConfigurationError
from protocol.keys import ALLOWED, read_allowed

log = logging.getLogger("headrace.daemon")

DOMAIN = "headrace"
_ADDRESS = "inproc://zeromq.zap.01"
# How long a change may go unseen that does not show in the folder's own time of change.
_RELOAD_S = 0.5
# Strangers fill no log: so many lines, of different keys, in so many seconds.
_LINES, _LINES_S = 10, 60.0


class ZapHandler:
    """Answers until it is closed. `allowed` (public key → name) follows the folder of the keys directory."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Path, on_stranger: Callable[[], None]) -> None:
        """on_stranger: called in this handler's thread for each connection that is turned away."""
        self.allowed: dict[str, str] = {}
        self.error: BaseException | None = None
        self._keys, self._on_stranger = keys, on_stranger
        self._said = ""
        self._named: set[str] = set()
        self._named_since = 0.0
        self._changed_ns: int | None = None
        self._read_at = 0.0
        self._reload()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._socket = context.socket(zmq.REP)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(_ADDRESS)
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        try:
            poller = zmq.Poller()
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._wake, zmq.POLLIN)
            while self._wake not in (ready := dict(poller.poll(int(_RELOAD_S * 1000)))):
                if self._changed() or time.monotonic() - self._read_at >= _RELOAD_S:
                    self._reload()
                if self._socket in ready:
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except BaseException as error:  # the server's own thread finds it, and ends
            self.error = error
        finally:
            self._socket.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """version, request id, domain, address, identity, mechanism, credentials → the reply that RFC 27 asks for."""
        version, number = request[0], request[1]
        address, mechanism, credentials = request[3].decode(errors="replace"), request[5], request[6:]
        if mechanism == b"CURVE" and len(credentials) == 1:
            public = z85.encode(credentials[0]).decode()
            if public in self.allowed:
                log.debug("%s connected from %s", self.allowed[public], address)
                return [version, number, b"200", b"OK", public.encode(), b""]
            self._turn_away(address, public)
        return [version, number, b"400", b"not allowed", b"", b""]

    def _turn_away(self, address: str, public: str) -> None:
        self._on_stranger()
        now = time.monotonic()
        if now - self._named_since > _LINES_S:
            self._named_since, self._named = now, set()
        if public in self._named or len(self._named) >= _LINES:
            return
        self._named.add(public)
        log.warning(
            "turned away a client at %s: its key is not allowed; to allow it: headrace keys allow %s NAME %s",
            address, self._keys, shlex.quote(public),
        )  # fmt: skip

    def _changed(self) -> bool:
        """A key was allowed or revoked since the folder was read; cheap, strangers can make us look."""
        return self._time_of_change() != self._changed_ns

    def _time_of_change(self) -> int | None:
        with suppress(OSError):  # reading the folder will say it
            return os.stat(self._keys / ALLOWED).st_mtime_ns
        return None

    def _reload(self) -> None:
        self._changed_ns, self._read_at = self._time_of_change(), time.monotonic()  # before it is read
        try:
            self.allowed, faults = read_allowed(self._keys)
        except ConfigurationError as error:
            self.allowed, faults = {}, [f"nobody is let in: {error}"]
        if not self.allowed and not faults:
            faults = [f"nobody is allowed yet: headrace keys new {self._keys} --client NAME"]
        said = "; ".join(faults)
        if said and said != self._said:
            log.warning("%s", said)
        self._said = said


def user_of(frame: zmq.Frame) -> str | None:
    """The public key of the connection that a message came on, as the ZAP handler named it."""
    with suppress(zmq.ZMQError):  # EINVAL: the connection has none
        user = frame.get("User-Id")
        return user if isinstance(user, str) else None
    return None
