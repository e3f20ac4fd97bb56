"""The producer's side of delivery, as a pure state machine: no socket, no clock (time is an argument).

Theory of operation. Everything that the sink has not acknowledged is kept here, as the list of parts it was sent in.
A session (see `sink_delivery`) breaks when a message was lost, when the sink falls silent or says that it does not know
us; then a new Hello names what is held, and each episode that the Welcome leases again is sent again from its Begin.
Parts leave in order, each as soon as the credit covers it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol.checksum import Buffer
from protocol.errors import EpisodeError
from protocol.messages import (
    PROTOCOL_VERSION,
    Abandon,
    Begin,
    Bye,
    Committed,
    Credit,
    Document,
    Done,
    Drain,
    End,
    Frames,
    FromProducer,
    FromSink,
    Goal,
    Hello,
    Leased,
    Notice,
    Ping,
    Pong,
    Producer,
    RefusalCode,
    Refused,
    Want,
    Welcome,
)
from protocol.patience import Patience
from protocol.spec import MAX_DOCUMENT_BYTES, MAX_FRAME_BYTES, StreamSpec

# Seconds between the first two Hellos: a sink that is not there costs little.
HELLO_INTERVAL_S = 1.0
# The interval doubles up to this, or a sink that answers more slowly would be asked anew for ever.
MAX_HELLO_INTERVAL_S = 8.0
RETRY_FULL_SINK_S = 5.0


@dataclass(frozen=True)
class Event:
    """Something the user of the machine has to know.

    kind: `leased`, `committed`, `lost` (another producer has the index), `refused`, `notice`, `done`, `drain`,
    `welcome`. A `refused` without index is the end: the sink will not take this producer.
    """

    kind: str
    index: int | None = None
    code: RefusalCode | None = None
    why: str = ""


@dataclass(frozen=True)
class Outgoing:
    """One message to send: its struct and its payload frames, untouched."""

    message: FromProducer
    payload: tuple[Buffer, ...] = ()

    @property
    def size(self) -> int:
        """Payload bytes."""
        return sum(map(len, self.payload))


@dataclass
class _Episode:
    parts: list[Outgoing] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)  # by SHA-256
    sent: int = 0
    ended: bool = False


class ProducerDelivery:
    """Leases, credit and unacknowledged episodes of one producer."""

    def __init__(
        self, producer: Producer, spec: StreamSpec, goal: Goal, now: float, new_session: Callable[[], int]
    ) -> None:
        """`new_session` gives a fresh random session number, 0 ≤ n < 2**63."""
        self.spec = spec
        self.ready = False
        self.epoch: int | None = None
        self.state = ""  # what the producer is doing, for people; goes with the next Ping
        self.sessions = 0  # Hellos so far
        self.resent = 0  # episodes that were begun again because their session was lost
        self.hangs = False  # no Ping, no Hello: what is leased here is to go to others
        self.finished = False  # a refusal ended it, or bye() was called
        self._producer = producer
        self._goal = goal
        self._new_session = new_session
        self._episodes: dict[int, _Episode] = {}
        self._leases: set[int] = set()  # granted, no Begin yet
        self._wanted = 0
        self._events: list[Event] = []
        self._queue: deque[Outgoing] = deque()  # control messages of this session, before any part
        self._session = self._next_in = self._next_out = self._credit = 0
        self._last_ping = self._retry_at = now
        self._patience = Patience(now)
        self._heartbeat_s = self._hello_interval_s = HELLO_INTERVAL_S
        self._sent_documents: set[str] = set()
        self._start(now)

    # --- what the user does -----------------------------------------------------------------------------------

    def want(self, count: int) -> None:
        """Ask for more leases."""
        self._wanted += count
        if self.ready:
            self._queue.append(Outgoing(Want(session=0, count=count)))

    def begin(self, index: int) -> None:
        """Begin the episode of a leased index. Nothing happens if the lease has been lost meanwhile."""
        if index in self._leases:
            self._leases.remove(index)
            self._episodes[index] = _Episode([Outgoing(Begin(session=0, index=index))])

    def frames(self, index: int, first: int, count: int, frames: Sequence[Buffer]) -> None:
        """Add the JPEG frames of `count` steps. Raises EpisodeError if they are too many bytes for one message."""
        sizes = tuple(map(len, frames))
        if sum(sizes) > MAX_FRAME_BYTES:
            raise EpisodeError(f"index {index}: {sum(sizes)} bytes of JPEG in one message; at most {MAX_FRAME_BYTES}")
        message = Frames(session=0, index=index, first=first, count=count, sizes=sizes)
        self._add(index, Outgoing(message, (b"".join(frames),)))

    def end(self, end: End, payload: Sequence[Buffer], documents: Sequence[bytes] = ()) -> None:
        """End an episode; `end.documents` is filled in from `documents`. Raises EpisodeError if anything is too big."""
        named = {hashlib.sha256(document).hexdigest(): document for document in documents}
        for document in named.values():
            if not 1 <= len(document) <= MAX_DOCUMENT_BYTES:
                raise EpisodeError(
                    f"index {end.index}: a document has {len(document)} bytes; expected 1 to {MAX_DOCUMENT_BYTES}"
                )
        self._add(end.index, Outgoing(msgspec.structs.replace(end, documents=tuple(named)), tuple(payload)))
        episode = self._episodes.get(end.index)
        if episode is not None:
            episode.documents, episode.ended = named, True

    def abandon(self, index: int) -> None:
        """Give an index back unfinished."""
        held = index in self._leases or index in self._episodes
        self._leases.discard(index)
        self._episodes.pop(index, None)
        if held and self.ready:
            self._queue.append(Outgoing(Abandon(session=0, index=index)))

    def begin_again(self, index: int) -> None:
        """Forget what was recorded of an episode that has not ended, and begin it again under the same lease."""
        if index in self._episodes and not self._episodes[index].ended:
            self._episodes[index] = _Episode([Outgoing(Begin(session=0, index=index))])

    def bye(self) -> None:
        """End the session; what is not committed goes back to the sink's pool."""
        self._queue.append(Outgoing(Bye(session=0)))
        self.finished = True

    def holds(self, index: int) -> bool:
        """The index is leased to us, or its episode is not yet committed."""
        return index in self._leases or index in self._episodes

    @property
    def under_way(self) -> bool:
        """An index is leased to us whose episode has not ended."""
        return bool(self._leases) or not all(episode.ended for episode in self._episodes.values())

    @property
    def unacknowledged_bytes(self) -> int:
        """Payload bytes of all episodes that are kept here."""
        return sum(part.size for episode in self._episodes.values() for part in episode.parts)

    @property
    def unacknowledged(self) -> int:
        """Ended episodes that wait for their Committed."""
        return sum(episode.ended for episode in self._episodes.values())

    # --- what the shell does ----------------------------------------------------------------------------------

    def receive(self, now: float, message: FromSink) -> None:
        """Take one message from the sink."""
        if message.session != self._session or self.finished:
            return  # of an earlier session
        if isinstance(message, Refused) and message.index is None:
            self._session_refused(now, message)  # seq does not matter: the session is over
            return
        if message.seq < self._next_in:
            return
        if message.seq > self._next_in:
            self._start(now)
            return
        self._next_in += 1
        self._dispatch(now, message)

    def break_session(self, now: float) -> None:
        """What came from the sink makes no sense: go on in a new session, on a new connection."""
        if not self.finished:
            self._start(now)

    def tick(self, now: float) -> bool:
        """To be called every 100 ms or so. True: the connection is silent, the shell should make a new one."""
        if self.finished or self.hangs:
            return False
        if not self.ready:
            if now >= self._retry_at:
                self._start(now)
                return True
            return False
        if self._patience.is_over(now):
            self._start(now)
            return True
        if now - self._last_ping >= self._heartbeat_s:
            self._last_ping = now
            self._queue.append(Outgoing(Ping(session=0, state=self.state[:120])))
        return False

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send now, in order."""
        out: list[Outgoing] = []
        while self._queue:
            out.append(self._stamp(self._queue.popleft()))
        if self.ready and not self.finished:
            for episode in self._episodes.values():
                while episode.sent < len(episode.parts) and self._may_send(episode, out):
                    out.append(self._stamp(episode.parts[episode.sent]))
                    self._credit -= episode.parts[episode.sent].size
                    episode.sent += 1
                if episode.sent < len(episode.parts):
                    break
        return out

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        taken, self._events = self._events, []
        return taken

    # --- inside -----------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        """Open a new session."""
        self.sessions += 1
        self._session = self._new_session()
        self._next_in = self._next_out = 0
        self._credit = 0
        self._sent_documents = set()
        self._last_ping = now
        self._heartbeat_s = HELLO_INTERVAL_S
        self._retry_at = now + self._hello_interval_s
        self._hello_interval_s = min(2 * self._hello_interval_s, MAX_HELLO_INTERVAL_S)
        self.ready = False
        self._queue.clear()
        holding = (*self._episodes, *sorted(self._leases))
        hello = Hello(
            session=0,
            protocol=PROTOCOL_VERSION,
            producer=self._producer,
            spec=self.spec,
            goal=self._goal,
            holding=holding,
        )
        self._queue.append(Outgoing(hello))

    def _session_refused(self, now: float, message: Refused) -> None:
        if message.code == "unknown_session":
            self._start(now)
        elif message.code in ("too_many_producers", "storage"):  # both may pass
            self._events.append(Event("notice", why=message.why))
            self._queue.clear()
            self.ready = False
            self._retry_at = now + RETRY_FULL_SINK_S
        else:
            self.finished = True
            self._events.append(Event("refused", None, message.code, message.why))

    def _dispatch(self, now: float, message: FromSink) -> None:
        if self.ready:
            self._patience.hear(now)
        match message:
            case Welcome():
                self._patience.begin(now, message.heartbeat_s, message.lease_s)
                self._welcome(message)
            case Leased():
                for index in message.indices:
                    self._wanted = max(self._wanted - 1, 0)
                    self._leases.add(index)
                    self._events.append(Event("leased", index))
            case Credit():
                self._patience.note_progress()
                self._credit += message.bytes
            case Committed():
                self._patience.note_progress()
                self._settle(message.index, Event("committed", message.index))
            case Refused():
                assert message.index is not None
                self._settle(message.index, Event("refused", message.index, message.code, message.why))
            case Notice():
                self._events.append(Event("notice", why=message.why))
            case Done():
                self._wanted = 0
                self._events.append(Event("done"))
            case Drain():
                self._events.append(Event("drain"))
            case Pong():
                pass

    def _welcome(self, message: Welcome) -> None:
        self.ready = True
        self.epoch = message.epoch
        self._credit = message.credit
        self._heartbeat_s = message.heartbeat_s
        self._hello_interval_s = HELLO_INTERVAL_S
        for index in message.committed:
            # An episode that we have not ended is not ours: another producer was given its index.
            ours = index in self._episodes and self._episodes[index].ended
            self._settle(index, Event("committed" if ours else "lost", index))
        for index in message.lost:
            self._settle(index, Event("lost", index))
        for index in message.leased:
            if index in self._episodes:
                self.resent += self._episodes[index].sent > 0
                self._episodes[index].sent = 0
            elif index not in self._leases:
                # It was abandoned after the Hello had named it.
                self._queue.append(Outgoing(Abandon(session=0, index=index)))
        for index in message.pending:
            if index in self._episodes:
                self._episodes[index].sent = len(self._episodes[index].parts)
        if self._wanted:
            self._queue.append(Outgoing(Want(session=0, count=self._wanted)))
        self._events.append(Event("welcome"))

    def _settle(self, index: int, event: Event) -> None:
        if self.holds(index):
            self._leases.discard(index)
            self._episodes.pop(index, None)
            self._events.append(event)

    def _add(self, index: int, part: Outgoing) -> None:
        if part.size > self.spec.min_window_bytes:
            # The credit might never cover it.
            raise EpisodeError(
                f"index {index}: {part.size} bytes in one message; the stream allows {self.spec.min_window_bytes}"
            )
        episode = self._episodes.get(index)
        if episode is not None:
            episode.parts.append(part)

    def _may_send(self, episode: _Episode, out: list[Outgoing]) -> bool:
        """The credit covers the next part; the documents that an End refers to go out before it."""
        part = episode.parts[episode.sent]
        if isinstance(part.message, End):
            for name, data in episode.documents.items():
                if name in self._sent_documents:
                    continue
                document = Outgoing(Document(session=0, sha256=name), (data,))
                if document.size > self._credit:
                    return False
                self._sent_documents.add(name)
                self._credit -= document.size
                out.append(self._stamp(document))
        return part.size <= self._credit

    def _stamp(self, part: Outgoing) -> Outgoing:
        message = msgspec.structs.replace(part.message, session=self._session, seq=self._next_out)
        self._next_out += 1
        return Outgoing(message, part.payload)
