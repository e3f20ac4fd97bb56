"""Simulated time and chance."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Clock:
    """The heap of what will happen; times in seconds."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self._heap: list[tuple[float, int, Action]] = []
        self._numbers = count()

    def at(self, time: float, action: Action) -> None:
        """Let something happen at a time, after all that was put there before."""
        heapq.heappush(self._heap, (time, next(self._numbers), action))

    def run(self, end: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass up to `end`; True as soon as `until` holds, which is asked every 10 ms."""
        while until is None or not until():
            step = end if until is None else min(end, self.now + 0.01)
            while self._heap and self._heap[0][0] <= step:
                self.now, _, action = heapq.heappop(self._heap)
                action()
            self.now = step
            if step >= end:
                return until is not None and until()
        return True
