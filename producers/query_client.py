"""A planner's side of the inference server: ask, and have an answer or a reason within the deadline.

A server that does not answer costs one deadline, and then nothing for the back-off period. An answer is known by the
number of its query, so one that comes late is dropped and never taken for another's.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import msgspec
import zmq

from producers.address import WAIT_S, Address
from producers.handshake import HandshakeWatch, secure
from producers.link import chosen_key
from protocol.errors import ConfigurationError, HeadraceError
from protocol.keys import ClientKey
from protocol.namo.queries import (
    MAX_DEADLINE_S,
    MAX_QUERY_BYTES,
    QUERY_PROTOCOL,
    Answer,
    Cancel,
    Failed,
    Infos,
    Query,
    QueryError,
    check_answer,
    check_query,
    decode_from_server,
    encode,
)

log = logging.getLogger("headrace.queries")

# An answer: at most as many goals as a query may ask for.
_MAX_ANSWER_BYTES = 16 << 20
# The server's `expired` should come before this side gives up.
_MARGIN, _MARGIN_S = 0.05, 0.01
# Codes that say that this server is of no use for a while, and those for which another may know better.
_ELSEWHERE = frozenset(
    {"busy", "unknown_model", "wrong_model", "model_failed", "draining", "bad_answer", "unreachable"}
)
_BACKS_OFF = frozenset({"draining", "unreachable", "bad_answer"})


class NoAnswerError(HeadraceError):
    """Go on without the model. code: of a `Failed`, or `unreachable`, or `bad_answer`."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"no answer from the inference server ({code}): {why}")
        self.code = code
        self.why = why


@dataclass(frozen=True)
class QueryClientConfig:
    """deadline_s: for each `ask`, with its second try. backoff_s: how long a server is left alone that did not answer.

    key: file of a client's key, for a server that wants one. HEADRACE_KEY is not looked at here.
    wait_s: how long a file is waited for in which a server says where it is [s].
    """

    deadline_s: float = 1.0
    backoff_s: float = 5.0
    key: Path | None = None
    wait_s: float = WAIT_S


@dataclass
class QueryStats:
    """failures: of `ask`, by code. late: answers that came when nobody waited any more. seconds: spent in `ask`."""

    asked: int = 0
    answered: int = 0
    retried: int = 0
    late: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass
class _Server:
    """endpoint: where `socket` goes; None while the server has not said where it is."""

    address: Address
    handshake: HandshakeWatch
    endpoint: str | None
    socket: zmq.Socket[bytes]
    rests_until: float = float("-inf")
    look: bool = False  # it did not answer: is it elsewhere now?

    @property
    def name(self) -> str:
        return self.endpoint or self.address.text


class QueryClient:
    """For one thread of one process. `with` closes it."""

    def __init__(self, endpoints: Sequence[str], config: QueryClientConfig | None = None) -> None:
        """Connects in the background; the first endpoint is asked first. Raises ConfigurationError.

        endpoints: or paths of files that `headrace infer --announce` writes.
        """
        self.config = config or QueryClientConfig()
        self.stats = QueryStats()
        if not endpoints or not 0 < self.config.deadline_s <= MAX_DEADLINE_S:
            raise ConfigurationError(
                f"expected at least one endpoint and a deadline of at most {MAX_DEADLINE_S:g} s, "
                f"found {list(endpoints)} and {self.config.deadline_s} s"
            )
        self._key = None if self.config.key is None else chosen_key(self.config.key)
        self._numbers = 0
        self._context = zmq.Context()
        self._servers: list[_Server] = []
        try:
            for text in endpoints:
                address = Address(text, "inference", QUERY_PROTOCOL, self._key, self.config.wait_s)
                endpoint, handshake = address.find(), HandshakeWatch("inference", self._key)
                made = _connected(self._context, endpoint, self._key, handshake)
                self._servers.append(_Server(address, handshake, endpoint, made))
        except ConfigurationError:
            self.close()
            raise

    def __enter__(self) -> QueryClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is waited for."""
        for server in self._servers:
            server.handshake.leave()
            server.socket.close(linger=0)
        self._servers = []
        self._context.term()

    def ask(self, query: Query) -> Answer:
        """The answer to a query, whose id and deadline are set here. Raises NoAnswerError, within the deadline.

        Raises ConfigurationError for a server that speaks another version, or that this client must not ask.
        """
        began = time.monotonic()
        self.stats.asked += 1
        try:
            answer = self._ask(query, began + self.config.deadline_s)
        except NoAnswerError as error:
            self.stats.failures[error.code] += 1
            raise
        finally:
            self.stats.seconds += time.monotonic() - began
        self.stats.answered += 1
        return answer

    def _ask(self, query: Query, deadline: float) -> Answer:
        try:
            check_query(query)
        except QueryError as error:
            raise NoAnswerError("bad_query", str(error)) from error
        awake = [server for server in self._servers if server.rests_until <= time.monotonic()]
        if not awake:
            endpoints = ", ".join(server.name for server in self._servers)
            raise NoAnswerError("unreachable", f"{endpoints} did not answer and will be tried again later")
        first, *others = awake
        if not others:
            return self._try(first, query, deadline)
        now = time.monotonic()
        try:
            return self._try(first, query, now + (deadline - now) / 2)
        except NoAnswerError as error:
            if error.code not in _ELSEWHERE:
                raise
        self.stats.retried += 1
        return self._try(others[0], query, deadline)

    def _try(self, server: _Server, query: Query, deadline: float) -> Answer:
        self._numbers += 1
        number = self._numbers
        try:
            return self._exchange(server, query, number, deadline)
        except zmq.ZMQError as error:
            failed = NoAnswerError("unreachable", f"{server.name}: {error.strerror}")
            cause: Exception = error
        except NoAnswerError as error:
            failed, cause = error, error
        if failed.code in _BACKS_OFF:
            self._why_not(server)
            server.rests_until, server.look = time.monotonic() + self.config.backoff_s, True
            self._cancel(server, number)
        raise failed from cause

    def _exchange(self, server: _Server, query: Query, number: int, deadline: float) -> Answer:
        left_s = deadline - time.monotonic()
        asked = msgspec.structs.replace(
            query, id=number, deadline_s=min(max(left_s - min(_MARGIN * left_s, _MARGIN_S), 1e-6), MAX_DEADLINE_S)
        )
        try:
            data = encode(asked)
        except TypeError as error:  # numpy's numbers, say
            raise NoAnswerError("bad_query", f"it cannot be encoded: {error}") from error
        if len(data) > MAX_QUERY_BYTES:
            why = f"the scene is too big: a query has at most {MAX_QUERY_BYTES} bytes, found {len(data)}"
            raise NoAnswerError("bad_query", why)
        self._follow(server)
        self._drop_late(server)
        # A socket that is not connected takes nothing (IMMEDIATE), so nothing is asked that waits for a server.
        if not server.socket.poll(_milliseconds(deadline), zmq.POLLOUT):
            why = self._why_not(server) or f"no connection to {server.name} within the deadline"
            raise NoAnswerError("unreachable", why)
        server.socket.send(data, zmq.NOBLOCK)
        return self._wait(server, asked, deadline)

    def _wait(self, server: _Server, asked: Query, deadline: float) -> Answer:
        while server.socket.poll(_milliseconds(deadline)):
            data = b"".join(server.socket.recv_multipart(zmq.NOBLOCK))
            try:
                message = decode_from_server(data)
            except QueryError as error:
                raise NoAnswerError("bad_answer", f"{server.name}: {error}") from error
            if message.id != asked.id:
                self.stats.late += 1
                continue
            server.handshake.note_welcome()
            return _checked(asked, message, server.name)
        raise NoAnswerError("unreachable", f"{server.name} did not answer within the deadline")

    def _follow(self, server: _Server) -> None:
        """Go where the server is now, if it did not answer or has not said before where it is."""
        if not (server.look or server.endpoint is None):
            return
        found = server.address.find()
        server.look = False
        if found is None:
            server.look = True
            raise NoAnswerError("unreachable", server.address.reason)
        if found != server.endpoint or server.handshake.reason:  # libzmq does not try again where it was refused
            server.handshake.leave()
            server.socket.close(linger=0)
            server.socket, server.endpoint = _connected(self._context, found, self._key, server.handshake), found

    def _why_not(self, server: _Server) -> str:
        """Why the server does not let us in; empty if it does, or we do not know. Said once."""
        before = server.handshake.reason
        server.handshake.look(server.endpoint)
        reason = server.handshake.reason
        if reason and reason != before:
            log.warning("%s", reason)
        return reason

    def _drop_late(self, server: _Server) -> None:
        while server.socket.poll(0):
            server.socket.recv_multipart(zmq.NOBLOCK)
            self.stats.late += 1

    def _cancel(self, server: _Server, number: int) -> None:
        """So that the server does not work for nobody. If it cannot be told it will find out."""
        if server.socket.poll(0, zmq.POLLOUT):
            server.socket.send(encode(Cancel(id=number)), zmq.NOBLOCK)


def _checked(asked: Query, message: Answer | Failed | Infos, endpoint: str) -> Answer:
    if isinstance(message, Failed) and message.code == "protocol_version":
        raise ConfigurationError(f"{endpoint}: {message.why}")
    if isinstance(message, Failed):
        raise NoAnswerError(message.code, f"{endpoint}: {message.why}")
    if not isinstance(message, Answer):
        raise NoAnswerError("bad_answer", f"{endpoint} sent {type(message).__name__} in place of an answer")
    try:
        check_answer(asked, message)
    except QueryError as error:
        raise NoAnswerError("bad_answer", f"{endpoint}: {error}") from error
    return message


def _milliseconds(deadline: float) -> int:
    return max(int((deadline - time.monotonic()) * 1000), 0)


def _connected(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str | None, key: ClientKey | None, handshake: HandshakeWatch
) -> zmq.Socket[bytes]:
    made = context.socket(zmq.DEALER)
    made.set(zmq.IMMEDIATE, 1)
    made.set(zmq.LINGER, 0)
    made.set(zmq.MAXMSGSIZE, _MAX_ANSWER_BYTES)
    made.set(zmq.HEARTBEAT_IVL, 2_000)
    made.set(zmq.HEARTBEAT_TIMEOUT, 6_000)
    made.set(zmq.RECONNECT_IVL, 50)
    made.set(zmq.RECONNECT_IVL_MAX, 1_000)
    secure(made, key)
    handshake.watch(made)
    try:
        if endpoint is not None:
            made.connect(endpoint)
    except zmq.ZMQError as error:
        handshake.leave()
        made.close()
        raise ConfigurationError(
            f"cannot connect to {endpoint!r}: {error.strerror}; expected e.g. tcp://127.0.0.1:5556"
        ) from error
    return made
