"""Which indices of a stream are discarded, after any number of lines of its flags: a snapshot names that number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.flag_log import FlagLog

Indices = NDArray[np.int64]
NONE: Indices = np.empty(0, np.int64)
# Answers that are kept: two snapshots are compared at a time.
_KEPT = 4


class Discards:
    """`lines`: how many were seen. They are only added to, so an answer holds for ever."""

    def __init__(self, log: FlagLog) -> None:
        self._log = log
        self.lines = 0
        self._line, self._index = [NONE], [NONE]
        self._discarded: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
        self._answers: dict[int, Indices] = {}

    def refresh(self) -> bool:
        """Look for new lines; True if there are any. Raises DatasetError, as `FlagLog.refresh` does."""
        if not self._log.refresh():
            return False
        for number, record in enumerate(self._log.records[self.lines :], self.lines):
            if record.what in ("discard", "keep"):
                count = len(record.indices)
                self._line.append(np.full(count, number))
                self._index.append(np.array(record.indices, np.int64))
                self._discarded.append(np.full(count, record.what == "discard"))
        self.lines = len(self._log.records)
        return True

    def after(self, lines: int) -> Indices:
        """The indices that are discarded after so many lines, int64, ascending."""
        if not lines:
            return NONE
        answer = self._answers.get(lines)
        if answer is None:
            while len(self._answers) >= _KEPT:
                del self._answers[next(iter(self._answers))]
            answer = self._answers[lines] = self._count(lines)
        return answer

    def _count(self, lines: int) -> Indices:
        for parts in (self._line, self._index, self._discarded):
            parts[:] = [np.concatenate(parts)]
        count = int(np.searchsorted(self._line[0], lines))
        # The last word on each index: the first one from behind.
        index, last = np.unique(self._index[0][:count][::-1], return_index=True)
        found: Indices = index[self._discarded[0][:count][::-1][last]]
        return found
