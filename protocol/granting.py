"""Who is given which index next, and who has heard that the work is done.

Theory of operation. What a message costs must not grow with the number of producers. So nobody walks over the sessions
of a stream: those that wait for a lease stand in a line, one line for each goal, and a goal is looked at only when
something in its range has changed (the book knows). A lease goes to whoever has waited longest in any line; who wants
more goes to the end of its line. So nobody starves while leases are scarce.

What remains is a cost for each *different* goal of a stream. Producers of one collection have one goal.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from itertools import count

from protocol.lease_book import LeaseBook
from protocol.messages import Done, Goal, Leased
from protocol.sessions import Session, Sessions


class LeaseLines:
    """The open sessions of one stream, by goal."""

    def __init__(self, book: LeaseBook, sessions: Sessions) -> None:
        self._book, self._sessions = book, sessions
        self._goals: Counter[Goal] = Counter()  # sessions with this goal
        self._working: dict[Goal, dict[int, Session]] = {}  # those that have not heard Done, by number
        # Those that want a lease and may have one, with the ticket that says who came first.
        self._lines: dict[Goal, OrderedDict[int, tuple[int, Session]]] = {}
        self._tickets = count()

    def join(self, session: Session) -> None:
        """It was opened."""
        self._goals[session.goal] += 1
        self._working.setdefault(session.goal, {})[session.number] = session
        self._book.look_at(session.goal)

    def leave(self, session: Session) -> None:
        """It is over; its leases are free again."""
        goal = session.goal
        if goal in self._working:
            self._working[goal].pop(session.number, None)
        if goal in self._lines:
            self._lines[goal].pop(session.number, None)
        self._book.release_all(session.number)
        self._goals[goal] -= 1
        if not self._goals[goal]:
            del self._goals[goal]
            self._working.pop(goal, None)
            self._lines.pop(goal, None)
            self._book.forget(goal)

    def want(self, session: Session) -> None:
        """It wants a lease, or a lease of it has ended: to the end of the line, unless it stands there."""
        if session.told_done:
            session.wants = 0
        if session.wants:
            line = self._lines.setdefault(session.goal, OrderedDict())
            if session.number not in line:
                line[session.number] = (next(self._tickets), session)
            self._book.look_at(session.goal)

    def serve(self, may_lease: bool) -> None:
        """Say Done and give leases where something has changed since the last call."""
        goals = self._book.take_changed()
        for goal in goals:
            if self._working.get(goal) and self._book.is_met(goal):
                self._say_done(goal)
        if may_lease:
            self._grant(goals)

    def serve_all(self, may_lease: bool) -> None:
        """The same for all: leases may be given again, or there is room again for scattered ones."""
        for goal in self._goals:
            self._book.look_at(goal)
        self.serve(may_lease)

    def _say_done(self, goal: Goal) -> None:
        self._lines.pop(goal, None)
        for session in self._working.pop(goal).values():
            session.wants = 0
            session.told_done = True
            self._sessions.send(session, Done(session=0))

    def _grant(self, goals: list[Goal]) -> None:
        """One lease each in turn to the sessions in the lines of these goals."""
        # By the ticket of who stands first; tickets differ, so goals are never compared.
        first = [(self._first_ticket(goal), goal) for goal in goals if self._lines.get(goal)]
        heapq.heapify(first)
        while first:
            _, goal = heapq.heappop(first)
            index = self._book.next_index(goal)
            if index is None:
                continue
            line = self._lines[goal]
            number, (_, session) = line.popitem(last=False)
            if self._book.may_lease(number):  # else it comes back when one of its leases ends
                self._book.lease(index, number)
                session.wants -= 1
                self._sessions.send(session, Leased(session=0, indices=(index,)))
                if session.wants:
                    line[number] = (next(self._tickets), session)
            if line:
                heapq.heappush(first, (self._first_ticket(goal), goal))
            else:
                del self._lines[goal]

    def _first_ticket(self, goal: Goal) -> int:
        return next(iter(self._lines[goal].values()))[0]
