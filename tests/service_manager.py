"""A datagram socket stands in for systemd, as sd_notify(3) allows."""

from __future__ import annotations

import re
import socket
import time
from types import TracebackType

from tests.processes import DEADLINE_S


class Manager:
    """A datagram socket and what has come to it."""

    def __init__(self, address: str) -> None:
        self.heard: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.socket.close()

    def next(self, timeout_s: float) -> str | None:
        """The next datagram, or None."""
        self.socket.settimeout(timeout_s)
        try:
            self.heard.append(self.socket.recv(1 << 16).decode())
        except (TimeoutError, BlockingIOError):  # the second for a timeout of 0
            return None
        return self.heard[-1]

    def hears(self, pattern: str) -> str:
        """Wait for a datagram that has this line."""
        ends = time.monotonic() + DEADLINE_S
        while (left := ends - time.monotonic()) > 0:
            message = self.next(left)
            if message is not None and re.search(f"^{pattern}$", message, re.MULTILINE):
                return message
        raise AssertionError(f"{pattern!r} did not come; heard {self.heard}")

    def catch_up(self) -> list[str]:
        """What lies there already."""
        before = len(self.heard)
        while self.next(0) is not None:
            pass
        return self.heard[before:]
