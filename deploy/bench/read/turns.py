"""Programs that measure when they are told to, and files that are not in memory when they do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.bench.peers.child import Child

_LIMIT_S = 600.0
_MIB = 1 << 20


class Turns:
    """One program, ready. `with` ends it."""

    def __init__(self, words: Sequence[str], settings: Mapping[str, Any], log: Path, environment: Any = None) -> None:
        """words: before its argument. Raises PeerError if it does not become ready."""
        self._child = Child([*words, json.dumps(dict(settings))], log, environment)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._child.__exit__(None, None, None)

    def take(self) -> dict[str, Any]:
        """One turn. Raises PeerError."""
        self._child.tell("go")
        return self._answer()

    def per_s(self) -> float:
        """One turn, as samples a second."""
        found = self.take()
        return float(found["samples"] / found["seconds"])

    def per_cpu_s(self) -> float:
        """One turn, as samples a second of processor time."""
        found = self.take()
        return float(found["samples"] / found["cpu_s"])

    def _answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._child.line(_LIMIT_S))
        return found


def program(module: str) -> list[str]:
    """The words of a program of ours."""
    return [sys.executable, "-m", module]


def files(place: Path) -> list[Path]:
    """The files of a folder, or the one file."""
    return sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def forget(place: Path) -> None:
    """Take files out of the page cache; those that are not yet on the disk are synced first."""
    for path in files(place):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def remember(place: Path) -> None:
    """Read files, so that they are in the page cache."""
    for path in files(place):
        with path.open("rb", buffering=0) as file:
            while file.read(_MIB):
                pass
