"""The page of a running sink: a process of its own that is started when somebody first looks, and ends with the sink.

The sink accepts connections and hands them on, so that /metrics and /status are there whatever becomes of the page,
and the page's work never waits for the ingest, nor the ingest for it.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

log = logging.getLogger("headrace.sink")

# A page that ends at once is not started more often than this.
_START_EVERY_S = 5.0
_END_S = 3.0
NEEDED = ("uvicorn", "starlette")


class HandedSettings(msgspec.Struct, frozen=True):
    """What the process is told. http: address of the sink's HTTP side, which browsers name. token: a file."""

    data: str
    http: str
    token: str | None = None
    inference: tuple[str, ...] = ()
    trainers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PageSettings:
    """token: file of --http-token. inference: HOST:PORT of inference servers. trainers: folders of training runs."""

    token: Path | None = None
    inference: tuple[str, ...] = ()
    trainers: tuple[Path, ...] = ()

    def handed(self, data: Path, http: str) -> HandedSettings:
        """With where the sink is. Paths are made absolute."""
        token = str(self.token.resolve()) if self.token is not None else None
        trainers = tuple(str(path.resolve()) for path in self.trainers)
        return HandedSettings(str(data.resolve()), http, token, self.inference, trainers)


class PageProcess:
    """Safe to use from several threads."""

    def __init__(self, settings: HandedSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._started = float("-inf")
        self._closed = False

    def take(self, connection: socket.socket) -> str | None:
        """Hand a connection on, starting the process if need be; a sentence if that cannot be."""
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return f"the page needs {' and '.join(missing)}: pip install 'headrace[page]', or say --no-page"
        with self._lock:
            if self._closed:
                return "the sink ends"
            if self._send(connection):
                return None
            if time.monotonic() - self._started < _START_EVERY_S:
                return f"the page has just ended; what the sink said last tells why. Try again in {_START_EVERY_S:g} s"
            self._end()
            self._start()
            return None if self._send(connection) else "the page could not be started; the sink's log tells why"

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._closed = True
            self._end()

    def _send(self, connection: socket.socket) -> bool:
        if self._control is None:
            return False
        try:
            socket.send_fds(self._control, [b"c"], [connection.fileno()])
        except OSError:
            return False
        return True

    def _start(self) -> None:
        self._started = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            settings = msgspec.json.encode(self._settings).decode()
            words = [sys.executable, "-m", "sink.page.handed_on", str(theirs.fileno()), settings]
            # In a session of its own: Ctrl-C is the sink's to hear, which tells the page.
            self._child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._control = ours
        log.info("the page of %s is process %d", Path(self._settings.data).name, self._child.pid)

    def _end(self) -> None:
        """Closing its socket is what tells it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._child is not None:
            try:
                self._child.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None
