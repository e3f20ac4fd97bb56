"""What the log of a training run says: losses by step, versions that were published, and how old all that is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LOG = "log.jsonl"
# Names under which our trainers write their losses: ACT, then the models of NAMO.
_TRAINING, _VALIDATION = ("l1", "training_loss"), ("validation_l1", "validation_loss")
_CHECKPOINTS = ("checkpoint.safetensors", "checkpoints", "current")
_MOST_POINTS = 500
_MOST_BYTES = 64 << 20
_MOST_LINE = 64 << 10


class TrainingLog:
    """One run, followed: only what was added is read. path: the run's folder or its log.jsonl."""

    def __init__(self, path: Path) -> None:
        self._log = path if path.suffix == ".jsonl" else path / LOG
        self.name = self._log.parent.name
        self._forget()

    def _forget(self) -> None:
        self._read = 0
        self._inode = 0
        self._step = 0
        self._time = 0.0
        self._training: list[tuple[int, float]] = []
        self._validation: list[tuple[int, float]] = []
        self._published: list[dict[str, Any]] = []

    def look(self) -> dict[str, Any]:
        """What is known; {"trouble": why} if there is no such log."""
        try:
            self._follow()
        except OSError as error:
            return {"name": self.name, "trouble": f"{self._log}: {error.strerror}"}
        return {
            "name": self.name,
            "step": self._step,
            "time": self._time,
            "snapshot_time": self._snapshot_time(),
            "training": _thinned(self._training),
            "validation": _thinned(self._validation),
            "published": self._published[-20:],
        }

    def _follow(self) -> None:
        with self._log.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._read:
                self._forget()
                self._inode = found.st_ino
                self._read = max(0, found.st_size - _MOST_BYTES)
            file.seek(self._read)
            for line in _whole_lines(file):
                self._read += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step, when = int(row["step"]), float(row["time"])
        except (ValueError, KeyError, TypeError):
            return  # the line of something else
        self._step, self._time = max(self._step, step), max(self._time, when)
        for names, points in ((_TRAINING, self._training), (_VALIDATION, self._validation)):
            values = [row[name] for name in names if isinstance(row.get(name), int | float)]
            if values and math.isfinite(values[0]):
                points.append((step, float(values[0])))
        if row.get("event") == "published":
            self._published.append({"step": step, "version": str(row.get("version", ""))[:64], "time": when})

    def _snapshot_time(self) -> float | None:
        """When weights were last written, Unix time [s]."""
        times = []
        for name in _CHECKPOINTS:
            try:
                times.append((self._log.parent / name).stat().st_mtime)
            except OSError:
                continue  # this trainer writes the others
        times += [entry["time"] for entry in self._published[-1:]]
        return max(times, default=None)


def _whole_lines(file: Any) -> Iterator[bytes]:
    """Lines that end; the last one may still be being written."""
    while (line := file.readline(_MOST_LINE)).endswith(b"\n") or len(line) == _MOST_LINE:
        yield line


def _thinned(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """[steps, values], at most _MOST_POINTS each: means of neighbours."""
    every = math.ceil(len(points) / _MOST_POINTS) or 1
    parts = [points[first : first + every] for first in range(0, len(points), every)]
    return [[part[-1][0] for part in parts], [sum(value for _, value in part) / len(part) for part in parts]]
