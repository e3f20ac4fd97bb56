"""Where a server is: an endpoint, or the file in which it announces itself, read anew for each connection."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from protocol.announcement import (
    Announcement,
    AnnouncementMissingError,
    Role,
    check_server,
    name_of,
    plain_host,
    read_announcement,
)
from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey

log = logging.getLogger("headrace.producers")

WAIT_S = 300.0
_LOOK_S = 0.5
# HOST:PORT without tcp://, or a word: no one calls a file so that a server on another machine is to write.
_NO_FILE = re.compile(r"[^/\s]+:\d+|[^/.]+")


class Address:
    """Of one server. For one thread at a time."""

    def __init__(self, text: str, role: Role, protocol: int, key: ClientKey | None, wait_s: float = WAIT_S) -> None:
        """text: with :// an endpoint, otherwise the path of a file. protocol: version of the messages that are spoken.

        wait_s: how long a file is waited for that is not there yet, or says that its server stopped; 0: not at all.
        Raises ConfigurationError.
        """
        self.text, self.role = text, role
        self.reason = ""  # why there is no endpoint, a sentence; empty if there is one
        self._protocol, self._key, self._wait_s = protocol, key, wait_s
        self._began = time.monotonic()
        self._found: str | None = None  # what `find` returned last that was an endpoint
        self.is_file = "://" not in text
        if self.is_file and _NO_FILE.fullmatch(text) and not Path(text).exists():
            raise ConfigurationError(f"expected tcp://HOST:PORT or the path of an announcement, found {text!r}")

    def find(self) -> str | None:
        """The endpoint, now; None if there is none, and `reason` says why.

        Raises ConfigurationError: for a server that this client must not go to; before the first endpoint was found
        also for a file that is no announcement, or does not come in time.
        """
        if not self.is_file:
            return self.text
        try:
            announced = read_announcement(Path(self.text))
        except AnnouncementMissingError as error:
            self.reason = str(error)
        except ConfigurationError as error:
            if self._found is None:
                raise
            self.reason = str(error)  # it was right, so it may become right again
        else:
            self.reason = _stopped(announced)  # the next life may have other keys, another release
            if not self.reason:
                self._check(announced)
                self._found = announced.endpoint
                return self._found
        if self._found is None and time.monotonic() - self._began >= self._wait_s:
            raise ConfigurationError(
                f"{self.reason}; waited {self._wait_s:g} s (--wait-s) for what a {name_of(self.role)} writes "
                f"with --announce {self.text}"
            )
        return None

    def wait(self, check: Callable[[], None] = lambda: None) -> None:
        """Until there is an endpoint. check: called now and then, may raise. Raises ConfigurationError as `find`."""
        said = False
        while self.find() is None:
            if not said:
                log.info("%s; waiting for it up to %g s", self.reason, self._wait_s)
            said = True
            check()
            time.sleep(min(_LOOK_S, self._wait_s))

    def _check(self, announced: Announcement) -> None:
        try:
            check_server(announced, self.role, self._protocol, self._key)
            here = plain_host(socket.gethostname())
            if is_loopback(announced.endpoint) and announced.host != here:
                raise ConfigurationError(
                    f"{announced.endpoint} can only be reached on {announced.host}, and this is {here}; start it "
                    "with --keys KEYS --bind tcp://0.0.0.0:PORT"
                )
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.text}: {error}") from error


def _stopped(announced: Announcement) -> str:
    if announced.stopped is None:
        return ""
    return f"the {name_of(announced.role)} of generation {announced.generation} stopped at {announced.stopped}"
