"""What a search may spend. Asked before every motion primitive, so that it overshoots by at most one."""

from __future__ import annotations

from collections.abc import Callable

from producers.namo.options import SearchOptions
from producers.namo.outcome import StopReason


class BudgetSpent(Exception):
    """The search ends here."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Budget:
    """Counts primitives and terminal checks; looks at the clock and at `cancelled`.

    Once it has refused it goes on refusing, with the first reason.
    """

    def __init__(self, options: SearchOptions, clock: Callable[[], float], cancelled: Callable[[], bool]) -> None:
        self._options, self._clock, self._cancelled = options, clock, cancelled
        self._ends = clock() + options.search_timeout_s
        self.primitives = 0
        self.terminal_checks = 0
        self.refused: StopReason | None = None

    def allow(self) -> bool:
        """May one more primitive be executed? `True` counts it."""
        self.refused = self.refused or self._reason()
        self.primitives += self.refused is None
        return self.refused is None

    def require(self) -> None:
        """Before work that is no primitive. Raises BudgetSpent."""
        self.refused = self.refused or self._reason()
        if self.refused is not None:
            raise BudgetSpent(self.refused)

    def check_terminal(self) -> None:
        """Counts a terminal check. Raises BudgetSpent when there is none left."""
        if self.terminal_checks >= self._options.max_terminal_checks:
            self.refused = self.refused or StopReason.CHECK_BUDGET
            raise BudgetSpent(self.refused)
        self.terminal_checks += 1

    def _reason(self) -> StopReason | None:
        if self._cancelled():
            return StopReason.CANCELLED
        if self._clock() >= self._ends:
            return StopReason.TIMEOUT
        if self._options.max_pushes is not None and self.primitives >= self._options.max_pushes:
            return StopReason.PUSH_BUDGET
        return None
