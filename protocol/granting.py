"""Who is given which index next."""

from __future__ import annotations

from protocol.lease_book import LeaseBook
from protocol.messages import Done, Leased
from protocol.sessions import Session, Sessions


def say_done(book: LeaseBook, candidates: list[Session], sessions: Sessions) -> None:
    """Tell those of one stream whose goal is met, each once."""
    met = {goal for goal in {session.goal for session in candidates} if book.is_met(goal)}
    for session in candidates:
        if session.goal in met:
            session.wants = 0
            if not session.told_done:
                session.told_done = True
                sessions.send(session, Done(session=0))


def grant(book: LeaseBook, candidates: list[Session], sessions: Sessions) -> None:
    """Give leases, one each in turn, to those of one stream that want them."""
    exhausted = set()
    waiting = [session for session in candidates if session.wants]
    while waiting:
        for session in waiting:
            if session.goal in exhausted or not book.may_lease(session.number):
                continue
            index = book.next_index(session.goal)
            if index is None:
                exhausted.add(session.goal)
                continue
            book.lease(index, session.number)
            session.wants -= 1
            sessions.send(session, Leased(session=0, indices=(index,)))
        waiting = [
            session
            for session in waiting
            if session.wants and session.goal not in exhausted and book.may_lease(session.number)
        ]
