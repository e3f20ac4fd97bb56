"""`python -m trainer.bench.refresh SETTINGS`: how long a LiveDataset takes to look for new episodes.

Settings: data, looks, core. By turns: `looks` looks while nothing comes, and one look at what has come since.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

from trainer import LiveDataset, Order, Sample
from trainer.bench.turns import serve, settings_of


class Looker:
    """Odd turns look at nothing, even turns at what has come."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._looks = settings["looks"]
        self._data = LiveDataset(settings["data"], Sample(cameras=()), order=Order(mode="growing"))
        self._data.refresh()
        self._idle = False

    def measure(self) -> dict[str, float]:
        """`us` of a look, median, at nothing; or `ms` of one and the number of `episodes` that it found."""
        self._idle = not self._idle
        if self._idle:
            return {"us": median(self._look()[0] for _ in range(self._looks)) * 1e6}
        seconds, episodes = self._look()
        return {"ms": seconds * 1e3, "episodes": episodes}

    def _look(self) -> tuple[float, int]:
        began = time.perf_counter()
        found = self._data.refresh()
        return time.perf_counter() - began, found


if __name__ == "__main__":
    chosen = settings_of(sys.argv)
    serve(chosen, Looker(chosen).measure)
