"""The sink's side of delivery, as a pure state machine: no socket, no file, no clock (time is an argument).

Theory of operation.

* A *session* is a gap-free sequence of messages in each direction. Whatever breaks it (a lost message, a dead
  connection, a restarted sink) is mended in one way: the producer says Hello with a new session number and names the
  indices it still holds; the sink answers for each of them. So there is no other recovery path to get wrong.
* An index is at any time in exactly one state: free, leased to one session, committing, or committed. Only `End` from
  the session that holds the lease moves it to committing; only the store moves it to committed. Hence exactly once.
* A lease lives as long as its session. A session that is silent for `lease_s` is over, and its leases are free.
* `receive` returns the orders for the store; the shell attaches the payload. Answers gather in `take_outbox`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from protocol.admission import hello_refusal
from protocol.credit import CreditPool
from protocol.errors import EpisodeError
from protocol.granting import LeaseLines
from protocol.interval_set import IntervalSet
from protocol.lease_book import Claim, LeaseBook
from protocol.messages import (
    MAX_HOLDING,
    Abandon,
    Begin,
    Bye,
    Committed,
    Credit,
    Document,
    Drain,
    End,
    Frames,
    FromProducer,
    FromSink,
    Hello,
    Notice,
    Outcome,
    Ping,
    Pong,
    RefusalCode,
    Refused,
    Want,
    Welcome,
)
from protocol.orders import Append, Attempt, Finish, Forget, Keep, OpenStream, Order
from protocol.payload import check_end, check_frames
from protocol.sessions import EpisodeUnderWay, Session, Sessions
from protocol.spec import MAX_DOCUMENT_BYTES, MAX_FRAME_BYTES, WINDOW_A_FRAME, StreamSpec
from protocol.waiting_hellos import WaitingHellos


@dataclass(frozen=True)
class DeliveryConfig:
    """credit_bytes: bound on all payload in flight. max_producers: how many equal shares that makes.

    heartbeat_s, lease_s: see Welcome. grace_s: after a restart, no index is given to a producer that did not hold it
    until this long has passed, so that those who hold one can say so. streams: the only streams taken, if not None.
    max_streams: so many at most, with those of the dataset; each reserves a shard on the disk.
    max_leases: of all streams and producers; a session may have an equal share of them, and always 16.
    """

    credit_bytes: int = 256 << 20
    max_producers: int = 64
    heartbeat_s: float = 1.0
    lease_s: float = 15.0
    grace_s: float = 3.0
    streams: frozenset[str] | None = None
    max_streams: int = 64
    max_leases: int = 16_384

    @property
    def leases_a_session(self) -> int:
        """The most that one session may hold in one stream."""
        return min(max(self.max_leases // self.max_producers, 16), MAX_HOLDING)


class _RefusalError(Exception):
    def __init__(self, code: RefusalCode, why: str, index: int | None = None) -> None:
        super().__init__(why)
        self.code: RefusalCode = code
        self.index = index


class SinkDelivery:
    """Leases, credit, acknowledgements for all streams and all producers of one sink."""

    def __init__(self, config: DeliveryConfig, epoch: int, now: float) -> None:
        self.config = config
        self.epoch = epoch
        self.credit = CreditPool(config.credit_bytes, config.max_producers)
        self.specs: dict[str, StreamSpec] = {}
        self.books: dict[str, LeaseBook] = {}
        self.draining = False
        self._sessions = Sessions()
        self._lines: dict[str, LeaseLines] = {}  # by stream, as the books
        self._waiting = WaitingHellos(config.max_producers)
        self._notices: dict[str, str] = {}
        self._grace_ends = now
        self._attempts = 0
        self._orders: list[Order] = []

    # --- what the shell calls ---------------------------------------------------------------------------------

    def receive(self, now: float, peer: bytes, message: FromProducer, sizes: tuple[int, ...] = ()) -> list[Order]:
        """Take one message whose payload frames have these sizes in bytes; returns the orders it gives rise to.

        At most one of them (Append, Finish or Keep) takes the payload.
        """
        if isinstance(message, Hello):
            self._hello(now, peer, message)
            return self._take_orders()
        session = self.sessions.get(peer)
        if session is None or session.number != message.session or message.seq > session.next_in:
            why = "say Hello again: this session is not known here, or a message of it was lost"
            self._sessions.turn_away(peer, message.session, "unknown_session", why)
            return []
        if message.seq < session.next_in:
            return []
        session.next_in += 1
        session.last_heard = now
        try:
            self._dispatch(now, session, message, sizes)
        except _RefusalError as refusal:
            self._refuse(now, session, refusal)
        return self._take_orders()

    def reject_peer(self, now: float, peer: bytes, session: int, code: RefusalCode, why: str) -> list[Order]:
        """The shell could not even decode a message of this peer."""
        self._sessions.turn_away(peer, session, code, why)
        known = self.sessions.get(peer)
        if known is not None and known.number == session:
            self._close(known)
            self._grant(now, known.stream)
        return self._take_orders()

    def stream_opened(
        self, now: float, spec: StreamSpec, committed: IntervalSet, successes: IntervalSet
    ) -> list[Order]:
        """The store has the stream ready, with these indices committed."""
        self.specs[spec.name] = spec
        book = self.books[spec.name] = LeaseBook(committed, successes, self.config.leases_a_session)
        self._lines[spec.name] = LeaseLines(book, self._sessions)
        if len(committed):
            self._grace_ends = now + self.config.grace_s
        for peer, hello in self._waiting.take(spec.name):
            self._hello(now, peer, hello)
        return self._take_orders()

    def stream_failed(self, stream: str, why: str) -> None:
        """The store cannot create the stream."""
        for peer, hello in self._waiting.take(stream):
            self._sessions.turn_away(peer, hello.session, "storage", why)

    def committed(self, now: float, stream: str, index: int, outcome: Outcome) -> None:
        """The episode of this index is durable."""
        self._sessions.tell(self.books[stream].finish_commit(index, outcome), Committed(session=0, index=index))
        self._grant(now, stream)

    def rejected(self, now: float, attempt: Attempt, code: RefusalCode, why: str) -> None:
        """The store found that the data of this attempt are not what they should be."""
        book = self.books[attempt.stream]
        committing = book.committing.get(attempt.index)
        if committing is not None and committing.attempt == attempt.number:
            refused = Refused(session=0, code=code, why=why, index=attempt.index)
            self._sessions.tell(book.cancel_commit(attempt.index), refused)
            self._grant(now, attempt.stream)
            return
        session = self._sessions.by_number.get(attempt.session)
        episode = session.episodes.get(attempt.index) if session else None
        if session and episode and episode.attempt == attempt:
            self._refuse(now, session, _RefusalError(code, why, attempt.index))

    def consumed(self, session: int, size: int) -> None:
        """The writer has put this many payload bytes of a session on disk, or dropped them."""
        owed = self.credit.consume(session, size)
        if owed:
            self._sessions.tell(session, Credit(session=0, bytes=owed))

    def notice(self, stream: str, why: str) -> None:
        """Tell all producers of a stream why they have to wait; empty: the reason is gone."""
        self._notices[stream] = why
        for session in self._sessions.of_stream(stream):
            self._sessions.send(session, Notice(session=0, why=why))

    def tick(self, now: float) -> list[Order]:
        """To be called every second or so: ends silent sessions and the time of grace."""
        for session in self._sessions.silent_since(now - self.config.lease_s):
            self._close(session)
        for lines in self._lines.values():
            lines.serve_all(self._may_lease(now))
        return self._take_orders()

    def drain(self) -> None:
        """Grant nothing more, and tell everyone to keep what is not committed."""
        self.draining = True
        for session in self.sessions.values():
            self._sessions.send(session, Drain(session=0))

    @property
    def sessions(self) -> dict[bytes, Session]:
        """The open sessions by peer."""
        return self._sessions.by_peer

    @property
    def waiting(self) -> Collection[bytes]:
        """Peers whose Hello waits for its stream to be opened."""
        return self._waiting.peers

    @property
    def committing(self) -> int:
        """Episodes that have arrived whole and are not yet durable."""
        return sum(len(book.committing) for book in self.books.values())

    def take_outbox(self) -> list[tuple[bytes, FromSink]]:
        """The messages to send now, in order."""
        return self._sessions.take_outbox()

    # --- sessions ---------------------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello) -> None:
        old = self.sessions.get(peer)
        if old is not None and old.number == hello.session:
            return  # a repeated Hello of the session that is open
        if old is None:
            self._admit(now, peer, hello)
            return
        # Its leases are granted to others only after the new session has had its chance to take them over.
        self._close(old)
        self._admit(now, peer, hello)
        self._grant(now, old.stream)

    def _admit(self, now: float, peer: bytes, hello: Hello) -> None:
        in_use = hello.session in self._sessions.by_number or self.credit.knows(hello.session)
        known = self.specs.get(hello.spec.name) or self._waiting.spec_of(hello.spec.name)
        why = hello_refusal(hello, known, self.config.streams, in_use)
        if why is not None:
            self._sessions.turn_away(peer, hello.session, *why)
            return
        window = self.credit.window(hello.spec.min_window_bytes)
        if hello.spec.name not in self.specs and window <= self.config.credit_bytes:
            self._wait_for_stream(peer, hello if known is None else msgspec.structs.replace(hello, spec=known))
            return
        if self.credit.is_burdened:
            why_not = "too many small payload frames wait for the disk; come again"
            self._sessions.turn_away(peer, hello.session, "too_many_producers", why_not)
            return
        credit = self.credit.open(hello.session, hello.spec.min_window_bytes)
        if not credit:
            text = (
                f"a producer of this stream needs a window of {window} bytes and {self.credit.free_bytes} are left of "
                f"{self.config.credit_bytes}; give the sink more memory or start fewer producers"
            )
            self._sessions.turn_away(peer, hello.session, "too_many_producers", text)
            return
        session = Session(peer, hello.session, hello.producer, hello.spec.name, hello.goal, now, credit)
        self._sessions.open(session)
        self._welcome(session, hello.holding, credit)
        self._lines[session.stream].join(session)
        self._grant(now, session.stream)

    def _wait_for_stream(self, peer: bytes, hello: Hello) -> None:
        """Open the stream, and keep the Hello until that is done."""
        name, most = hello.spec.name, self.config.max_streams
        if name not in self._waiting and len(self.specs) + len(self._waiting) >= most:
            text = f"stream {name!r} is not taken: the sink has {most} streams; its --max-streams"
            self._sessions.turn_away(peer, hello.session, "unknown_stream", text)
            return
        full = self._waiting.why_full(peer, hello)
        if full:
            self._sessions.turn_away(peer, hello.session, "too_many_producers", full)
            return
        if name not in self._waiting:
            self._orders.append(OpenStream(hello.spec))
        self._waiting.add(peer, hello)

    def _welcome(self, session: Session, holding: tuple[int, ...], credit: int) -> None:
        book = self.books[session.stream]
        claims: dict[Claim, list[int]] = {"leased": [], "pending": [], "committed": [], "lost": []}
        for index in dict.fromkeys(holding):
            claims[book.claim(index, session.number, session.peer, session.goal)].append(index)
        welcome = Welcome(
            session=0,
            epoch=self.epoch,
            credit=credit,
            heartbeat_s=self.config.heartbeat_s,
            lease_s=self.config.lease_s,
            leased=tuple(claims["leased"]),
            pending=tuple(claims["pending"]),
            committed=tuple(claims["committed"]),
            lost=tuple(claims["lost"]),
        )
        self._sessions.send(session, welcome)
        if self._notices.get(session.stream):
            self._sessions.send(session, Notice(session=0, why=self._notices[session.stream]))
        if self.draining:
            self._sessions.send(session, Drain(session=0))

    def _close(self, session: Session) -> None:
        """End a session; its leases are free, for the `_grant` that the caller must not forget."""
        self._sessions.close(session)
        self.credit.close(session.number)
        self._orders += [Forget(episode.attempt) for episode in session.episodes.values() if episode.steps]
        self._lines[session.stream].leave(session)

    # --- messages of a session --------------------------------------------------------------------------------

    def _dispatch(self, now: float, session: Session, message: FromProducer, sizes: tuple[int, ...]) -> None:
        if sizes and not self.credit.receive(session.number, sum(sizes)):
            raise _RefusalError("credit_exceeded", f"{sum(sizes)} payload bytes are more than the credit left")
        pieces = len(message.sizes) if isinstance(message, Frames) else len(sizes)
        if sum(sizes) and not self.credit.bear(session.number, pieces):
            raise self._drop(session, sizes, "unknown_session", "too many small payload frames wait for the disk")
        if sizes and not isinstance(message, Frames | Document | End):
            raise self._drop(session, sizes, "bad_message", f"{type(message).__name__} has no payload, found {sizes}")
        if any(size > MAX_FRAME_BYTES for size in sizes):
            raise self._drop(session, sizes, "bad_message", f"a payload frame is over {MAX_FRAME_BYTES} bytes")
        match message:
            case Want():
                session.wants = min(session.wants + message.count, MAX_HOLDING)
                self._lines[session.stream].want(session)
                self._grant(now, session.stream)
            case Begin():
                self._begin(session, message)
            case Frames():
                self._frames(session, message, sizes)
            case Document():
                if len(sizes) != 1 or not 1 <= sizes[0] <= MAX_DOCUMENT_BYTES:
                    why = f"a Document has one payload frame of 1 to {MAX_DOCUMENT_BYTES} bytes, found {sizes}"
                    raise self._drop(session, sizes, "bad_message", why)
                self._orders.append(Keep(session.stream, session.number, message.sha256, sizes[0]))
            case End():
                self._end(session, message, sizes)
            case Abandon():
                if self.books[session.stream].leases.get(message.index) == session.number:
                    # Abandon may cross a refusal and a new lease of the same index. The producer will take that lease
                    # for its own, and has to hear that it is over when it begins.
                    session.refused.discard(message.index)
                self._abandon(now, session, message.index)
            case Ping():
                session.state = message.state
                self._sessions.send(session, Pong(session=0))
            case Bye():
                self._close(session)
                self._grant(now, session.stream)
            case Hello():
                raise AssertionError("receive() handles Hello")

    def _begin(self, session: Session, message: Begin) -> None:
        if self.books[session.stream].leases.get(message.index) != session.number:
            if message.index in session.refused:
                return  # sent before the refusal was heard
            raise _RefusalError("not_leased", f"index {message.index} is not leased to this session", message.index)
        before = session.episodes.get(message.index)
        if before is not None and before.steps:  # else the store has not heard of it
            self._orders.append(Forget(before.attempt))
        self._attempts += 1
        attempt = Attempt(self._attempts, session.stream, message.index, session.number, session.producer.name)
        session.episodes[message.index] = EpisodeUnderWay(attempt)
        session.refused.discard(message.index)

    def _frames(self, session: Session, message: Frames, sizes: tuple[int, ...]) -> None:
        if message.index in session.refused:
            self.consumed(session.number, sum(sizes))
            return
        episode = self._episode(session, message.index, sizes)
        try:
            check_frames(self.specs[session.stream], message, sizes, episode.steps)
        except EpisodeError as error:
            raise self._drop(session, sizes, "bad_message", str(error), message.index) from error
        under_way = sum(other.steps for other in session.episodes.values()) + message.count
        most = session.window // WINDOW_A_FRAME
        if under_way * len(self.specs[session.stream].cameras) > most:
            why = f"more than {most} frames are in episodes that have not ended; end some before others begin"
            raise self._drop(session, sizes, "bad_message", why, message.index)
        episode.steps += message.count
        self._orders.append(Append(episode.attempt, message.first, message.count, message.sizes, sum(sizes)))

    def _end(self, session: Session, message: End, sizes: tuple[int, ...]) -> None:
        if message.index in session.refused:
            self.consumed(session.number, sum(sizes))
            return
        episode = self._episode(session, message.index, sizes)
        try:
            check_end(self.specs[session.stream], message, sizes, episode.steps)
        except EpisodeError as error:
            raise self._drop(session, sizes, "bad_message", str(error), message.index) from error
        del session.episodes[message.index]
        self.books[session.stream].start_commit(message.index, episode.attempt.number, session.peer)
        self._lines[session.stream].want(session)
        self._orders.append(Finish(episode.attempt, message, sum(sizes)))

    def _abandon(self, now: float, session: Session, index: int) -> None:
        book = self.books[session.stream]
        if book.leases.get(index) != session.number:
            return  # it was refused or committed while Abandon was on its way
        episode = session.episodes.pop(index, None)
        if episode is not None and episode.steps:
            self._orders.append(Forget(episode.attempt))
        book.release(index)
        self._lines[session.stream].want(session)
        self._grant(now, session.stream)

    def _episode(self, session: Session, index: int, sizes: tuple[int, ...]) -> EpisodeUnderWay:
        episode = session.episodes.get(index)
        if episode is None:
            raise self._drop(session, sizes, "not_leased", f"index {index} has no Begin in this session", index)
        return episode

    def _drop(
        self, session: Session, sizes: tuple[int, ...], code: RefusalCode, why: str, index: int | None = None
    ) -> _RefusalError:
        """Give the credit of a payload back that nobody will write; returns the refusal to raise."""
        self.consumed(session.number, sum(sizes))
        return _RefusalError(code, why, index)

    def _refuse(self, now: float, session: Session, refusal: _RefusalError) -> None:
        """Tell the producer; the lease of the index is over, or without an index the whole session."""
        self._sessions.send(session, Refused(session=0, code=refusal.code, why=str(refusal), index=refusal.index))
        if refusal.index is None:
            self._close(session)
            self._grant(now, session.stream)
            return
        if len(session.refused) >= MAX_HOLDING:
            # An honest producer never gets here. This one may begin anew.
            why = f"{MAX_HOLDING} indices were refused in this session; say Hello again"
            self._refuse(now, session, _RefusalError("unknown_session", why))
            return
        session.refused.add(refusal.index)
        self._abandon(now, session, refusal.index)

    def _grant(self, now: float, stream: str) -> None:
        """Say Done and give leases, as far as may be now, where something has changed."""
        self._lines[stream].serve(self._may_lease(now))

    def _may_lease(self, now: float) -> bool:
        return not self.draining and now >= self._grace_ends

    def _take_orders(self) -> list[Order]:
        taken, self._orders = self._orders, []
        return taken
