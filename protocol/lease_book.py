"""Which indices of one stream are committed, leased, or still to do.

Theory of operation. A lease is always the lowest index that is neither committed, nor being committed, nor leased,
and for a goal of N successes it is granted only while successes + outstanding leases < N. So an index k is leased only
if fewer than N of the indices below it can succeed; therefore the successes at the end are the first N indices that
succeed at all, whatever the number of workers, their order and their deaths. Nothing is collected beyond the goal.

Counting the successes of a range takes longer the more scattered they are. So for each goal that somebody works for
there is a tally that follows every index of its range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from protocol.interval_set import IntervalSet
from protocol.messages import MAX_HOLDING, Goal, Outcome

# Scattered indices cost memory: each makes an interval of its own. Beyond this many only their neighbours are leased.
MAX_FRAGMENTS = 65_536
# A producer holds what it was leased as the lowest free index; so what it holds is never far above the lowest free one.
MAX_AHEAD = 1 << 20

Claim = Literal["committed", "pending", "leased", "lost"]


@dataclass
class Committing:
    """A whole episode at the store: the attempt and the peer that it came from, and the session to tell."""

    attempt: int
    peer: bytes
    session: int


@dataclass
class Tally:
    """How far a goal has come. outstanding: indices of its range that are leased or committing."""

    successes: int
    outstanding: int


class LeaseBook:
    """The book of one stream. `committed` and `successes` come from the dataset when the sink starts."""

    def __init__(self, committed: IntervalSet, successes: IntervalSet, leases_a_session: int = MAX_HOLDING) -> None:
        self.committed = committed
        self.successes = successes
        self._taken = committed.copy()
        self.leases: dict[int, int] = {}  # index → session
        self.committing: dict[int, Committing] = {}
        self._held: dict[int, set[int]] = {}  # leases by session
        self._leases_a_session = leases_a_session
        self._tallies: dict[Goal, Tally] = {}
        self._changed: dict[Goal, None] = {}  # as a set that keeps its order

    def next_index(self, goal: Goal) -> int | None:
        """The index that a producer with this goal should be given now, or None if there is none at the moment."""
        if goal.successes is not None:
            tally = self._tally(goal)
            if tally.successes + tally.outstanding >= goal.successes:
                return None
        index = self._taken.first_gap(goal.start)
        return index if (goal.end is None or index < goal.end) and self._has_room(index) else None

    def may_lease(self, session: int) -> bool:
        """The session holds fewer leases than it may."""
        return len(self._held.get(session, ())) < self._leases_a_session

    def _has_room(self, index: int) -> bool:
        return self._taken.fragments < MAX_FRAGMENTS or self._taken.touches(index)

    def is_met(self, goal: Goal) -> bool:
        """The goal is reached by what is committed."""
        if goal.successes is not None and self._tally(goal).successes >= goal.successes:
            return True
        return goal.end is not None and self.committed.first_gap(goal.start) >= goal.end

    def is_free(self, index: int) -> bool:
        """Nobody has this index, and it is not committed."""
        return index not in self._taken

    def lease(self, index: int, session: int) -> None:
        """Give a free index to a session."""
        assert index not in self._taken, index
        self._taken.add(index)
        self.leases[index] = session
        self._held.setdefault(session, set()).add(index)
        for _, tally in self._tallies_of(index):
            tally.outstanding += 1

    def claim(self, index: int, session: int, peer: bytes, goal: Goal) -> Claim:
        """A session says that it still holds an index: what has become of it? The index is given to it if possible."""
        if index in self.committed:
            return "committed"
        # Only whose episode it is: another peer may not even have ended its own.
        if index in self.committing and self.committing[index].peer == peer:
            self.committing[index].session = session
            return "pending"
        in_goal = goal.start <= index and (goal.end is None or index < goal.end)
        ahead = index - self._taken.first_gap(goal.start)
        if self.is_free(index) and self.may_lease(session) and in_goal and ahead <= MAX_AHEAD and self._has_room(index):
            self.lease(index, session)
            return "leased"
        return "lost"

    def release(self, index: int) -> None:
        """Take a lease back into the pool."""
        self._drop_lease(index)
        self._set_free(index)

    def release_all(self, session: int) -> None:
        """Take all leases of a session back into the pool."""
        for index in sorted(self._held.get(session, ())):
            self.release(index)

    def _drop_lease(self, index: int) -> int:
        session = self.leases.pop(index)
        self._held[session].remove(index)
        if not self._held[session]:
            del self._held[session]
        return session

    def _set_free(self, index: int) -> None:
        self._taken.remove(index)
        for goal, tally in self._tallies_of(index):
            tally.outstanding -= 1
            self._changed[goal] = None

    def start_commit(self, index: int, attempt: int, peer: bytes) -> None:
        """A whole episode has arrived under this lease: from now on it cannot be lost to another producer."""
        self.committing[index] = Committing(attempt, peer, self._drop_lease(index))

    def finish_commit(self, index: int, outcome: Outcome) -> int:
        """The episode is durable; returns the session to tell."""
        self.committed.add(index)
        if outcome is Outcome.SUCCESS:
            self.successes.add(index)
        for goal, tally in self._tallies_of(index):
            tally.outstanding -= 1
            tally.successes += outcome is Outcome.SUCCESS
            self._changed[goal] = None
        return self.committing.pop(index).session

    def cancel_commit(self, index: int) -> int:
        """The episode could not be committed; the index goes back into the pool. Returns the session to tell."""
        self._set_free(index)
        return self.committing.pop(index).session

    # --- goals ------------------------------------------------------------------------------------------------

    def look_at(self, goal: Goal) -> None:
        """Follow this goal, and name it in the next `take_changed`."""
        self._tally(goal)
        self._changed[goal] = None

    def take_changed(self) -> list[Goal]:
        """The goals that may be met now, or of which an index may be leased now, and could not at the last call."""
        taken, self._changed = self._changed, {}
        return list(taken)

    def forget(self, goal: Goal) -> None:
        """Nobody works for this goal any more."""
        self._tallies.pop(goal, None)
        self._changed.pop(goal, None)

    def _tally(self, goal: Goal) -> Tally:
        tally = self._tallies.get(goal)
        if tally is None:
            taken = self._taken.count(goal.start, goal.end)
            outstanding = taken - self.committed.count(goal.start, goal.end)
            tally = self._tallies[goal] = Tally(self.successes.count(goal.start, goal.end), outstanding)
        return tally

    def _tallies_of(self, index: int) -> Iterator[tuple[Goal, Tally]]:
        """Of the goals in whose range the index lies."""
        for goal, tally in self._tallies.items():
            if goal.start <= index and (goal.end is None or index < goal.end):
                yield goal, tally
