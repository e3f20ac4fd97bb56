"""The server: a ROUTER that never waits for a model.

The thread that calls `run` owns the socket. It decodes, checks and queues queries, tells at once who is refused or
whose time is over, and sends what the model threads have made.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from inference.batcher import BatchLimits
from inference.clients import Clients, limits_now
from inference.execution import Executor, models_missing
from inference.metrics import Metrics
from inference.model import Model, ModelSource
from inference.model_threads import ModelThreads, expired
from inference.shelf import Shelf, ShelfConfig
from inference.work import Work
from protocol.endpoint import check_http, parse_address
from protocol.errors import ConfigurationError
from protocol.namo.queries import (
    MAX_QUERY_BYTES,
    QUERY_PROTOCOL,
    Cancel,
    Failed,
    FailureCode,
    Info,
    Infos,
    Query,
    QueryError,
    QueryVersionError,
    check_query,
    decode_from_client,
    decode_number,
    encode,
)
from serving.access import Access
from serving.announce import Announce, Announcer
from serving.connections import ConnectionGuard
from serving.endpoint import check_endpoint
from serving.http import HttpServer
from serving.keep_alive import keep_alive
from serving.notify import ServiceNotifier

log = logging.getLogger("headrace.infer")

_POLL_S = 0.1
_TICK_S = 0.5
_BURST = 256
_WHY_CHARACTERS = 1000


@dataclass(frozen=True)
class ServerConfig:
    """http: HOST:PORT or None. threads: batches that run at once. stuck_s: one that takes longer is a problem.

    drain_s: how long queued queries are answered after `stop`. look_s, again_s: see `ShelfConfig`.
    announce: a file that tells planners where the server is, or None. keys: directory of `headrace keys`; None for
    anyone who reaches the endpoint. client_bytes: own memory that clients may add to what the warm models take.
    http_without_keys: let other machines reach `http`.
    """

    bind: str = "tcp://127.0.0.1:5556"
    http: str | None = None
    device: str = "cpu"
    threads: int = 1
    limits: BatchLimits = field(default_factory=BatchLimits)
    stuck_s: float = 30.0
    drain_s: float = 30.0
    look_s: float = 1.0
    again_s: float = 10.0
    announce: Announce | None = None
    keys: Path | None = None
    connections: int = 256
    client_bytes: int = 256 << 20
    http_without_keys: bool = False


def check_bind(bind: str, keys: Path | None) -> None:
    """Raise ConfigurationError if other machines can reach this endpoint and there are no keys."""
    check_endpoint(bind, has_keys=keys is not None, anyone="ask its models")


class Server:
    """Made: models are loaded and warm, the socket is bound. `run` serves until `stop`."""

    def __init__(self, source: ModelSource, config: ServerConfig) -> None:
        """Raises HeadraceError if there is nothing to serve, or the address cannot be had."""
        check_bind(config.bind, config.keys)
        if config.http:
            parse_address(config.http)
            check_http(config.http, config.http_without_keys)
        self.config = config
        self.metrics = Metrics()
        self._access = Access(config.keys, self.metrics.rejected) if config.keys else None
        self._announcer = self._announcer_for(config.announce)
        self._notifier = ServiceNotifier(os.environ)
        self._notifier.starting("loading models")
        self._work = Work(config.limits)
        self.metrics.queue_items.set_function(lambda: self._work.depth.items)
        self.metrics.queue_bytes.set_function(lambda: self._work.depth.bytes)
        self._shown: Mapping[str, Model] = {}
        self._stop_at: float | None = None
        self._said_stopping = False
        self._answered = 0
        self._next_expiry: float | None = None
        self._beat = time.monotonic()  # of the loop
        shelf_config = ShelfConfig(config.limits.max_batch, config.look_s, config.again_s)
        self._shelf = Shelf(source, shelf_config, lambda result: self.metrics.loads.labels(result).inc())
        executor = Executor(config.device, config.limits.max_batch)
        with ExitStack() as undo:
            context = zmq.Context()
            undo.callback(context.term)
            if self._access is not None:
                undo.callback(self._access.start(context).close)
            self._socket = context.socket(zmq.ROUTER)
            undo.callback(self._socket.close)
            self._shelf.start()
            undo.callback(self._shelf.close)
            limits = limits_now(config.connections, config.client_bytes)
            self._guard = ConnectionGuard(self._socket, limits, self.metrics.guard)
            undo.callback(self._guard.close)
            self._clients = Clients(self._guard)
            self._bind()  # only now: who is connected may expect an answer
            self._model = ModelThreads(self._work, self._shelf, executor, self.metrics, config.threads)
            self._model.start()
            undo.callback(self._end_model)
            self.http_address: str | None = None
            if config.http:
                http = HttpServer(config.http, self.metrics.registry, self.health)
                undo.callback(http.close)
                self.http_address = http.address
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Answer what is queued, refuse what comes, and return from `run`; may be called from a signal handler."""
        if self._stop_at is None:
            self._stop_at = time.monotonic()

    @property
    def stopping(self) -> bool:
        """stop() was called."""
        return self._stop_at is not None

    def health(self) -> tuple[list[str], list[str]]:
        """Problems and warnings, a sentence each; safe to call from any thread."""
        now = time.monotonic()
        problem = self._model.problem(now, self.config.stuck_s)
        problems = [problem] if problem else []
        if now - self._beat > self.config.stuck_s:
            problems.append(f"the thread of the socket has not moved for {now - self._beat:.0f} s")
        if self.stopping:
            problems.append("draining")
        return problems, self._shelf.warnings

    def run(self) -> None:
        """Serve until stopped."""
        poller = zmq.Poller()
        for source in (self._socket, self._model.wake_fd):
            poller.register(source, zmq.POLLIN)
        next_tick = 0.0
        try:
            self._notifier.ready(f"ready, planners at {self.endpoint}")
            if self._announcer is not None:
                self._announcer.ready(self.endpoint, self.http_address)
            while not self._drained():
                self._notifier.alive(time.monotonic())
                ready = dict(poller.poll(self._timeout_ms()))
                if self._model.wake_fd in ready:
                    for peer, outcome in self._model.take():
                        self._send(peer, outcome.code, outcome.data)
                self._receive_burst()
                self._expire()
                self._beat = now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + _TICK_S
                    self._close_revoked()
                    self._guard.serves(self._clients.known)
                    self._refresh()
                    self._notifier.progress(now, self._status_line())
            if self._announcer is not None:
                self._announcer.stopped()
        finally:
            self._undo.close()

    # --- starting and stopping --------------------------------------------------------------------------------

    def _announcer_for(self, asked: Announce | None) -> Announcer | None:
        if asked is None:
            return None
        public_key = self._access.public_key if self._access is not None else None
        return Announcer(asked, "inference", self.config.bind, QUERY_PROTOCOL, public_key)

    def _bind(self) -> None:
        socket, bind = self._socket, self.config.bind
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 1000)
        socket.set(zmq.MAXMSGSIZE, MAX_QUERY_BYTES)
        socket.set(zmq.RCVHWM, 256)
        socket.set(zmq.SNDHWM, 256)
        socket.set(zmq.BACKLOG, 1024)
        keep_alive(socket)
        if self._access is not None:
            self._access.secure(socket)
        try:
            socket.bind(bind)
        except zmq.ZMQError as error:
            why = os.strerror(error.errno or 0)
            what = f"cannot bind {bind}: {why}; is another server there? Choose another --bind"
            raise ConfigurationError(what) from error
        if bind.startswith("ipc://"):
            os.chmod(bind.removeprefix("ipc://"), 0o600)
        self.endpoint = socket.get_string(zmq.LAST_ENDPOINT)

    def _end_model(self) -> None:
        if not self._model.close(self.config.drain_s):
            log.warning("a model is still in a batch; it ends with the process")

    def _drained(self) -> bool:
        if self._stop_at is None:
            return False
        if not self._said_stopping:
            self._said_stopping = True
            self._notifier.stopping(f"draining: {self._work.depth.items} queries wait")
        late = time.monotonic() - self._stop_at > self.config.drain_s
        if late:
            log.warning("not all queries were answered within %.0f s of draining", self.config.drain_s)
        return late or self._work.empty

    # --- the loop ---------------------------------------------------------------------------------------------

    def _timeout_ms(self) -> int:
        if self._next_expiry is None:
            return int(_POLL_S * 1000)
        left_s = self._next_expiry - time.monotonic()
        return max(0, min(int(_POLL_S * 1000), int(left_s * 1000) + 1))

    def _receive_burst(self) -> None:
        """Take some, then ask who is gone, then handle them: see `clients`."""
        taken: list[tuple[bytes, int, list[bytes]]] = []
        while len(taken) < _BURST and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            first = self._socket.recv(zmq.NOBLOCK, copy=False)
            peer, fd, frames = first.bytes, first.get(zmq.SRCFD), []
            while self._socket.get(zmq.RCVMORE):
                frames.append(self._socket.recv())
            self._guard.took(peer, fd, len(peer) + sum(map(len, frames)), len(frames) + 1)
            if self._access is None or self._access.admits(peer, first):
                taken.append((peer, fd, frames))
            else:
                self._guard.expel(peer)
        for peer in self._clients.gone():
            self.metrics.abandoned.inc(self._work.forget(peer))
        for peer, fd, frames in taken:
            self._clients.took(fd, peer)
            self._receive(peer, frames)

    def _close_revoked(self) -> None:
        """Nothing more is taken from those whose key was revoked, and what they asked is dropped."""
        for peer in self._access.revoked(self._clients.known) if self._access is not None else ():
            self.metrics.abandoned.inc(self._work.forget(peer))
            self._guard.expel(peer)

    def _receive(self, peer: bytes, frames: list[bytes]) -> None:
        if len(frames) != 1:
            self.metrics.unreadable.inc()
            return
        data = frames[0]
        try:
            message = decode_from_client(data)
            if isinstance(message, Query):
                check_query(message)
        except QueryError as error:
            self._reject(peer, data, error)
            return
        self._clients.welcome(peer)
        match message:
            case Query():
                self._ask(peer, message, len(data))
            case Cancel():
                self.metrics.cancelled.inc(self._work.cancel(peer, message.id))
            case Info():
                models = tuple(model.info for _, model in sorted(self._shelf.models.items()))
                infos = Infos(id=message.id, protocol=QUERY_PROTOCOL, device=self.config.device, models=models)
                self._send(peer, "info", encode(infos))

    def _reject(self, peer: bytes, data: bytes, error: QueryError) -> None:
        number = decode_number(data)
        if number is None:
            self.metrics.unreadable.inc()
        else:
            code: FailureCode = "protocol_version" if isinstance(error, QueryVersionError) else "bad_query"
            self._refuse(peer, Failed(id=number, code=code, why=str(error)[:_WHY_CHARACTERS]))

    def _ask(self, peer: bytes, query: Query, size: int) -> None:
        if self.stopping:
            refused: Failed | None = Failed(id=query.id, code="draining", why="this server is being stopped")
        else:
            refused = models_missing(query, self._shelf.models) or self._work.add(peer, query, size)
        if refused is not None:
            self._refuse(peer, refused)

    def _expire(self) -> None:
        over, self._next_expiry = self._work.expire()
        for item in over:
            outcome = expired(item)
            self._send(item.peer, outcome.code, outcome.data)

    def _refuse(self, peer: bytes, failed: Failed) -> None:
        self._send(peer, failed.code, encode(failed))

    def _send(self, peer: bytes, outcome: str, data: bytes) -> None:
        self.metrics.queries.labels(outcome).inc()
        self._answered += outcome == "answered"
        self._guard.answered(peer, len(data))
        try:
            self._socket.send_multipart([peer, data], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.metrics.unreachable.inc()
            if error.errno == zmq.EHOSTUNREACH:
                self.metrics.abandoned.inc(self._work.forget(peer))

    def _refresh(self) -> None:
        """Say which versions are served, if that has changed."""
        models = self._shelf.models
        if models is self._shown:
            return
        for name, model in models.items():
            before = self._shown.get(name)
            if before is not None and before is not model:
                self.metrics.model_info.remove(name, before.info.kind, before.info.version)
            self.metrics.model_info.labels(name, model.info.kind, model.info.version).set(1)
        self._shown = models

    def _status_line(self) -> str:
        versions = ", ".join(f"{name} {model.info.version}" for name, model in sorted(self._shelf.models.items()))
        words = f"{self._answered} queries answered, {self._work.depth.items} wait; {versions}"
        return "; ".join((words, *self.health()[0]))
