"""The publishing API: send episodes of any simulator to a sink, and never lose or double one.

    with Publisher("tcp://127.0.0.1:5555", spec, Goal(successes=100)) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                ...
                episode.step({"action": action, "observations/qpos": qpos}, {"front": image})
                episode.finish(success=True)

A thread of its own speaks to the sink (heartbeats, acknowledgements, reconnection), so a step never waits for the
network; a new lease waits while too much is unacknowledged.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from producers.address import WAIT_S, Address
from producers.episode import Episode
from producers.link import NAME_VARIABLE, Link, chosen_key
from protocol.checksum import Buffer
from protocol.errors import ConfigurationError, HeadraceError, ProtocolError, RefusedError
from protocol.jpeg import DEFAULT_QUALITY
from protocol.messages import PROTOCOL_VERSION, End, Goal, Producer, decode_from_sink, encode
from protocol.producer_delivery import Event, ProducerDelivery
from protocol.spec import StreamSpec

log = logging.getLogger("headrace.publisher")

_TICK_MS = 100
_SAY_AGAIN_S = 10.0
_CHECK_S = 0.5
# A connection may garble a message of the sink. More of them, and nothing committed in between: it is the sink.
_MAX_GARBLED = 3


@dataclass(frozen=True)
class PublisherConfig:
    """name: shown to people; default: HEADRACE_NAME, or host:pid. jpeg_quality: 1 to 100, for images given as arrays.

    hang_s: an episode to which nothing was added for this long [s] is taken for hung, and its index goes to others.
    max_ahead_bytes, max_ahead_episodes: a new lease waits while more than this is unacknowledged.
    key: file of `headrace keys new KEYS --client NAME`, for a sink with keys; default: what HEADRACE_KEY names, if set.
    wait_s: how long a file is waited for in which the sink says where it is [s]; 0: not at all.
    """

    name: str = ""
    jpeg_quality: int = DEFAULT_QUALITY
    hang_s: float = 3600.0
    max_ahead_bytes: int = 128 << 20
    max_ahead_episodes: int = 8
    key: Path | None = None
    wait_s: float = WAIT_S


class Publisher:
    """One producer of one stream."""

    def __init__(
        self,
        endpoint: str,
        spec: StreamSpec,
        goal: Goal,
        config: PublisherConfig | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Connects in the background; a sink that is not there yet is waited for.

        endpoint: tcp://HOST:PORT, ipc://PATH, or the path of the file that `headrace sink --announce` writes.
        on_event: called in the publisher's thread with each `Event` (committed, notice, drain, …), for displays.
        Raises SpecError, ConfigurationError.
        """
        spec.check()
        self.spec, self.endpoint = spec, endpoint
        self.config = config or PublisherConfig()
        self.waited_s = 0.0  # the user's thread waited for the sink this long [s]
        self.committed = 0
        name = self.config.name or os.environ.get(NAME_VARIABLE) or f"{socket.gethostname()}:{os.getpid()}"
        me = Producer(name[:64], socket.gethostname()[:255], os.getpid())
        self._machine = ProducerDelivery(me, spec, goal, time.monotonic(), lambda: secrets.randbits(62))
        self._on_event = on_event
        self._changed = threading.Condition()
        self._granted: deque[int] = deque()
        self._last_call = time.monotonic()  # of the user's thread
        self._garbled = 0  # messages since the last Committed
        self._remade: set[int] = set()  # arrived damaged once
        self._asked = self._done = self._closing = self._told_error = False
        self._error: BaseException | None = None
        key = chosen_key(self.config.key)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            address = Address(endpoint, "sink", PROTOCOL_VERSION, key, self.config.wait_s)
            self._link = Link(address, key, self._wake)
        except ConfigurationError:
            os.close(self._wake)
            raise
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(flush=kind is None)

    def leases(self, check: Callable[[], None] | None = None) -> Iterator[int]:
        """The indices to produce, one by one, until the goal is met and everything of ours is committed.

        check: called every now and then while this waits; it may raise to stop. Raises RefusedError if the sink refuses
        this producer or one of its episodes.
        """
        while (index := self._next_lease(check)) is not None:
            yield index
        self.flush(check)

    def episode(self, index: int) -> Episode:
        """Record the episode of a leased index."""
        return Episode(self, index, self.spec, self.config.jpeg_quality)

    def flush(self, check: Callable[[], None] | None = None) -> None:
        """Wait until every ended episode is committed. Raises RefusedError, and what `check` raises."""
        with self._changed:
            self._wait(lambda: not self._machine.unacknowledged, check)

    def close(self, flush: bool = True) -> None:
        """Leave the sink; what is not committed goes back to its pool (after a flush there is nothing).

        May be called again; then nothing happens. Raises a RefusedError that was not raised before.
        """
        if self._closing:
            return
        try:
            if flush and not self._told_error:
                self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._machine.bye()
            self._rouse()
            self._thread.join()
            self._link.close()
            os.close(self._wake)

    @property
    def sessions(self) -> int:
        """How often a session with the sink was asked for: 1 if nothing ever broke."""
        return self._machine.sessions

    @property
    def resent(self) -> int:
        """Episodes that were sent again from their beginning, because a connection or a sink was lost."""
        return self._machine.resent

    def tell(self, state: str) -> None:
        """Say what this producer is doing, for people; it goes with the next heartbeat, at most 120 characters."""
        self._machine.state = state

    def holds(self, index: int) -> bool:
        """The index is leased to us, or its episode waits for its commit."""
        with self._changed:
            return self._machine.holds(index)

    # --- an episode's Outbox ------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """The user's thread is alive."""
        self._last_call = time.monotonic()

    def begin(self, index: int) -> None:
        """Begin the episode of a leased index."""
        self._do(lambda: self._machine.begin(index))

    def begin_again(self, index: int) -> None:
        """Forget what was sent of an episode, and begin it again under the same lease."""
        self._do(lambda: self._machine.begin_again(index))

    def send_frames(self, index: int, first: int, count: int, frames: Sequence[Buffer]) -> None:
        """Send the frames of `count` steps."""
        self._do(lambda: self._machine.frames(index, first, count, frames))

    def send_end(self, end: End, payload: Sequence[Buffer], documents: Sequence[bytes]) -> None:
        """Send the end of an episode."""
        self._do(lambda: self._machine.end(end, payload, documents))

    def abandon(self, index: int) -> None:
        """Give an index back."""
        with self._changed:
            self._machine.abandon(index)
        self._rouse()

    # --- the user's thread ------------------------------------------------------------------------------------

    def _do(self, action: Callable[[], None]) -> None:
        self.touch()
        with self._changed:
            self._raise_error()
            action()
        self._rouse()

    def _next_lease(self, check: Callable[[], None] | None) -> int | None:
        with self._changed:
            self._wait(self._has_room, check)
            self._wait(self._lease_or_end, check)
            if not self._granted:
                return None
            self._asked = False
            return self._granted.popleft()

    def _lease_or_end(self) -> bool:
        """Ask, unless that was done; asked again when a granted index was lost."""
        if not (self._granted or self._asked or self._done):
            self._asked = True
            self._machine.want(1)
            self._rouse()
        return bool(self._granted) or self._done

    def _has_room(self) -> bool:
        machine = self._machine
        return (
            machine.unacknowledged < self.config.max_ahead_episodes
            and machine.unacknowledged_bytes <= self.config.max_ahead_bytes
        )

    def _wait(self, ready: Callable[[], bool], check: Callable[[], None] | None = None) -> None:
        began = said = time.monotonic()
        try:
            while True:
                self.touch()
                self._raise_error()
                if ready():
                    break
                if check is not None:
                    check()
                self._changed.wait(_CHECK_S)
                if time.monotonic() - said > _SAY_AGAIN_S and not self._machine.ready:
                    said = time.monotonic()
                    why = self._link.address.reason or self._link.reason or "still trying"
                    log.warning("no answer from a sink at %s for %.0f s; %s", self.endpoint, said - began, why)
        finally:
            self.waited_s += time.monotonic() - began

    def _raise_error(self) -> None:
        if self._error is not None:
            self._told_error = True
            raise self._error

    def _rouse(self) -> None:
        os.eventfd_write(self._wake, 1)

    # --- the publisher's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._step():
                pass
        except BaseException as error:  # raised again in the user's thread
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _step(self) -> bool:
        """One turn of the loop; True when all is said and the thread may end."""
        heard = self._link.wait(_TICK_MS)
        with suppress(BlockingIOError):  # nobody roused us: a message, or the time
            os.eventfd_read(self._wake)
        reason = self._link.new_reason()
        if reason:
            log.warning("%s", reason)
        with self._changed:
            if heard:
                self._receive_all()
            self._notice_hang()
            if self._machine.tick(time.monotonic()):
                self._link.renew()
            elif not self._machine.ready and self._link.moved():
                log.info("the sink is elsewhere now, as %s says", self.endpoint)
                self._machine.break_session(time.monotonic())
                self._link.renew()
            for part in self._machine.take_outgoing():
                try:
                    self._link.socket.send_multipart([encode(part.message), *part.payload], zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    continue  # the sink does not read; it will notice the gap, and a new session sends this again
            events = self._machine.take_events()
            for event in events:
                self._handle(event)
            if events:
                self._changed.notify_all()
            closing = self._closing
        for event in events:
            if self._on_event is not None:
                self._on_event(event)
        return closing

    def _notice_hang(self) -> None:
        hangs = self._machine.under_way and time.monotonic() - self._last_call > self.config.hang_s
        if hangs and not self._machine.hangs:
            log.warning("nothing was recorded for %.0f s; the sink may give the index to others", self.config.hang_s)
        self._machine.hangs = hangs

    def _receive_all(self) -> None:
        while int(self._link.socket.get(zmq.EVENTS)) & zmq.POLLIN:
            frames = self._link.socket.recv_multipart(zmq.NOBLOCK)
            try:
                message = decode_from_sink(frames[0])
            except ProtocolError as error:
                self._garbled += 1
                if self._garbled > _MAX_GARBLED:
                    raise
                log.warning("%s; connecting anew", error)
                self._machine.break_session(time.monotonic())
                self._link.renew()
                return
            self._machine.receive(time.monotonic(), message)

    def _handle(self, event: Event) -> None:
        match event.kind:
            case "leased":
                assert event.index is not None
                self._granted.append(event.index)
            case "lost" | "committed":
                self.committed += event.kind == "committed"
                self._garbled = 0
                self._drop(event.index)
                if event.kind == "lost":
                    log.warning("index %d was given to another producer while the sink was out of reach", event.index)
            case "refused" if event.code == "not_leased":
                self._drop(event.index)
                log.warning("index %d is not ours any more: %s", event.index, event.why)
            case "refused" if event.code == "bad_checksum" and event.index not in self._remade:
                # The index is free again, for whoever asks next.
                assert event.index is not None
                self._remade.add(event.index)
                log.warning("index %d did not arrive as it was sent; it is made again: %s", event.index, event.why)
            case "refused":
                self._error = RefusedError(event.code or "", event.why)
            case "done":
                self._done = True
            case "notice" if event.why:
                log.warning("the sink says: %s", event.why)
            case "welcome":
                self._link.note_welcome()
            case "drain":
                log.info("the sink is stopping; what is not committed is kept until it is back")
            case _:
                pass

    def _drop(self, index: int | None) -> None:
        if index is not None and index in self._granted:
            self._granted.remove(index)
            self._asked = False


__all__ = ["Episode", "Goal", "HeadraceError", "Publisher", "PublisherConfig"]
