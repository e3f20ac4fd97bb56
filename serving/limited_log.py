"""Warnings about strangers, at a rate that no stranger decides."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

PER_WINDOW = 20
WINDOW_S = 60.0
MAX_LINE = 1000


@dataclass
class _Kind:
    since: float
    count: int = 0


class LimitedLog:
    """Passes the first warnings of a kind in each minute on, and counts the others. May be used by several threads."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.Lock()

    def warning(self, kind: str, text: str, *arguments: object) -> None:
        """`kind` is one of a few words of ours, never of a stranger's."""
        now = time.monotonic()
        with self._lock:
            found = self._kinds.setdefault(kind, _Kind(now))
            left_out = self._roll(found, now)
            found.count += 1
            passes = found.count <= PER_WINDOW
        self._say(kind, left_out)
        if passes:
            self._log.warning("%s", _plain(text % arguments))

    def flush(self, at_once: bool = False) -> None:
        """Say how many were left out in minutes that are over; at_once: in this one too. To be called now and then."""
        now = time.monotonic()
        with self._lock:
            left_out = {kind: self._roll(found, now, at_once) for kind, found in self._kinds.items()}
        for kind, count in left_out.items():
            self._say(kind, count)

    def _roll(self, kind: _Kind, now: float, at_once: bool = False) -> int:
        if now - kind.since < WINDOW_S and not at_once:
            return 0
        left_out = max(kind.count - PER_WINDOW, 0)
        kind.since, kind.count = now, 0
        return left_out

    def _say(self, kind: str, left_out: int) -> None:
        if left_out:
            self._log.warning("%d more of this kind were not logged one by one: %s", left_out, kind)


def _plain(line: str) -> str:
    """One line of limited length, without control characters: strangers' names and texts are in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:MAX_LINE])
