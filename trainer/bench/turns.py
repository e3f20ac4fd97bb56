"""A program that measures when it is told to, so that several can take turns: one JSON object a turn."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def passed(self) -> dict[str, float]:
        """`seconds`, and `cpu_s` of all threads of this process."""
        return {"seconds": time.perf_counter() - self._began[0], "cpu_s": time.process_time() - self._began[1]}


def serve(settings: dict[str, Any], measure: Callable[[], dict[str, float]]) -> None:
    """Say `{"ready": true}`, then measure once for each line on stdin. settings: `core`, the only one to run on."""
    if settings.get("core") is not None:
        os.sched_setaffinity(0, {settings["core"]})
    import torch  # not everyone that reads settings needs it

    torch.set_num_threads(1)
    _say({"ready": True})
    for _ in sys.stdin:
        _say(measure())


def settings_of(argv: list[str]) -> dict[str, Any]:
    """The one argument, a JSON object."""
    found: dict[str, Any] = json.loads(argv[1])
    return found


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
