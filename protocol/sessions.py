"""The open sessions of a sink, and the messages that wait to be sent to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from protocol.messages import MAX_TEXT, FromSink, Goal, Notice, Producer, RefusalCode, Refused
from protocol.orders import Attempt


@dataclass
class EpisodeUnderWay:
    """An attempt that has begun and not ended, and how many steps of frames have arrived."""

    attempt: Attempt
    steps: int = 0


@dataclass
class Session:
    """One producer, from its Hello to its Bye, its silence, or its next Hello."""

    peer: bytes
    number: int
    producer: Producer
    stream: str
    goal: Goal
    last_heard: float
    window: int
    next_in: int = 1
    next_out: int = 0
    wants: int = 0
    told_done: bool = False
    state: str = ""
    episodes: dict[int, EpisodeUnderWay] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)


class Sessions:
    """A peer has at most one session; a session number has one peer."""

    def __init__(self) -> None:
        self.by_peer: dict[bytes, Session] = {}
        self.by_number: dict[int, Session] = {}
        self._outbox: list[tuple[bytes, FromSink]] = []

    def open(self, session: Session) -> None:
        """From now on it is known."""
        self.by_peer[session.peer] = self.by_number[session.number] = session

    def close(self, session: Session) -> None:
        """From now on it is unknown."""
        del self.by_peer[session.peer], self.by_number[session.number]

    def of_stream(self, stream: str) -> list[Session]:
        """Those of one stream, in the order in which they were opened."""
        return [session for session in self.by_peer.values() if session.stream == stream]

    def silent_since(self, time: float) -> list[Session]:
        """Those from which nothing was heard after `time`."""
        return [session for session in self.by_peer.values() if session.last_heard <= time]

    def send(self, session: Session, message: FromSink) -> None:
        """Put the next message of a session into the outbox; its session and seq are filled in."""
        stamped = msgspec.structs.replace(message, session=session.number, seq=session.next_out)
        session.next_out += 1
        if isinstance(stamped, Refused | Notice):
            stamped = msgspec.structs.replace(stamped, why=stamped.why[:MAX_TEXT])
        self._outbox.append((session.peer, stamped))

    def tell(self, number: int, message: FromSink) -> None:
        """Send to a session if it is still open."""
        session = self.by_number.get(number)
        if session is not None:
            self.send(session, message)

    def turn_away(self, peer: bytes, number: int, code: RefusalCode, why: str) -> None:
        """Answer someone who has no session."""
        self._outbox.append((peer, Refused(session=number, code=code, why=why[:MAX_TEXT])))

    def take_outbox(self) -> list[tuple[bytes, FromSink]]:
        """The messages to send now, in order."""
        taken, self._outbox = self._outbox, []
        return taken
