"""A set of integers kept as disjoint intervals: a million committed indices are usually a handful of intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


class IntervalSet:
    """Integers ≥ 0. `_starts[i] ≤ n < _ends[i]` for the members n of interval i; intervals never touch."""

    def __init__(self, members: Iterable[int] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._size = 0
        for member in members:
            self.add(member)

    @classmethod
    def from_array(cls, members: NDArray[np.int64]) -> IntervalSet:
        """From int64[N], in any order; duplicates count once."""
        made = cls()
        if len(members):
            # Indices are committed nearly in order; a million that are in order need no sorting.
            ordered = members if np.all(members[1:] > members[:-1]) else np.unique(members)
            breaks = np.flatnonzero(np.diff(ordered) > 1)
            made._starts = ordered[np.r_[0, breaks + 1]].tolist()
            made._ends = (ordered[np.r_[breaks, len(ordered) - 1]] + 1).tolist()
            made._size = len(ordered)
        return made

    def __len__(self) -> int:
        return self._size

    def __contains__(self, member: int) -> bool:
        place = bisect_right(self._starts, member) - 1
        return place >= 0 and member < self._ends[place]

    def __iter__(self) -> Iterator[int]:
        for start, end in self.intervals():
            yield from range(start, end)

    def intervals(self) -> list[tuple[int, int]]:
        """The intervals as (start, end), end excluded."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def fragments(self) -> int:
        """How many intervals: what it takes of memory."""
        return len(self._starts)

    def touches(self, member: int) -> bool:
        """`member`, or the number before or behind it, is in: adding it makes no new interval."""
        return any(number in self for number in (member - 1, member, member + 1))

    def copy(self) -> IntervalSet:
        """An independent copy."""
        made = IntervalSet()
        made._starts, made._ends, made._size = self._starts.copy(), self._ends.copy(), self._size
        return made

    def add(self, member: int) -> None:
        """Put `member` in; nothing happens if it is there."""
        place = bisect_right(self._starts, member)
        left = place > 0 and self._ends[place - 1] >= member
        if left and self._ends[place - 1] > member:
            return
        right = place < len(self._starts) and self._starts[place] == member + 1
        self._size += 1
        if left and right:
            self._ends[place - 1] = self._ends[place]
            del self._starts[place], self._ends[place]
        elif left:
            self._ends[place - 1] = member + 1
        elif right:
            self._starts[place] = member
        else:
            self._starts.insert(place, member)
            self._ends.insert(place, member + 1)

    def remove(self, member: int) -> None:
        """Take `member` out; nothing happens if it is not there."""
        place = bisect_right(self._starts, member) - 1
        if place < 0 or member >= self._ends[place]:
            return
        self._size -= 1
        start, end = self._starts[place], self._ends[place]
        rest = [(a, b) for a, b in ((start, member), (member + 1, end)) if a < b]
        self._starts[place : place + 1] = [a for a, _ in rest]
        self._ends[place : place + 1] = [b for _, b in rest]

    def first_gap(self, start: int) -> int:
        """The smallest integer ≥ `start` that is not a member."""
        place = bisect_right(self._starts, start) - 1
        if place >= 0 and start < self._ends[place]:
            return self._ends[place]
        return start

    def count(self, start: int, end: int | None) -> int:
        """How many members lie in [start, end); `end` None means no upper bound."""
        if end is not None and end <= start:
            return 0
        first = bisect_right(self._ends, start)
        last = len(self._starts) if end is None else bisect_left(self._starts, end)
        if first >= last:
            return 0
        total = sum(self._ends[first:last]) - sum(self._starts[first:last])
        total -= max(start - self._starts[first], 0)
        return total if end is None else total - max(self._ends[last - 1] - end, 0)
