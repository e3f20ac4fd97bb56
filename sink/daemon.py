"""The sink: a ZeroMQ shell round `SinkDelivery`, a writer thread behind it.

One thread receives, decides and answers; it never waits for the disk. The order that a message gives rise to goes to
the writer with the payload untouched; the writer's reports come back through an eventfd.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from protocol.endpoint import check_http, parse_address
from protocol.errors import ConfigurationError, DatasetError, ProtocolError
from protocol.messages import (
    PROTOCOL_VERSION,
    Outcome,
    Refused,
    Welcome,
    decode_envelope,
    decode_from_producer,
    encode,
)
from protocol.orders import Append, Finish, Keep, OpenStream, Order
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import MAX_FRAME_BYTES
from serving.access import Access
from serving.announce import Announce, Announcer
from serving.connections import ConnectionGuard, ConnectionLimits
from serving.endpoint import check_endpoint
from serving.http import HttpServer
from serving.keep_alive import keep_alive
from serving.limited_log import LimitedLog
from serving.notify import ServiceNotifier
from sink.dataset import dataset_uuid, streams_on_disk
from sink.disk import Disk
from sink.lock import DirectoryLock
from sink.metrics import Metrics
from sink.page.process import PageProcess, PageSettings
from sink.quota import Quota
from sink.reports import (
    CommitDone,
    CommittedEpisode,
    Consumed,
    Opened,
    OpenFailed,
    Rejected,
    Report,
    Rolled,
    Short,
    Stalled,
    WriterFailed,
)
from sink.status import StatusBoard
from sink.writer import Writer

log = logging.getLogger("headrace.sink")

_TICK_S = 0.5
_DRAIN_LIMIT_S = 30.0
# A disk that has been busy with one order for longer is worth a word.
_DISK_HANGS_S = 5.0
# libzmq reads so much at once; frames of up to this size share that memory.
_BATCH_BYTES = 8192
# Messages taken in one go before the writer's reports get their turn.
_BURST = 256


@dataclass(frozen=True)
class SinkConfig:
    """data: dataset directory. bind: ZeroMQ endpoint. http: HOST:PORT or None. shard_bytes: size of a shard's blob.

    keys: directory of `headrace keys`; None for anyone who reaches the endpoint.
    connections: how many, and what they may keep in memory that the sink has not taken.
    quota_bytes: disk that the directory may take; None: all that is free.
    announce: a file that tells clients where the sink is, or None. http_without_keys: let other machines reach `http`.
    page: who else the page in a browser looks at, below the same address as http; None for no page.
    """

    data: Path
    bind: str = "tcp://127.0.0.1:5555"
    http: str | None = None
    shard_bytes: int = 1 << 30
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    keys: Path | None = None
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    quota_bytes: int | None = None
    announce: Announce | None = None
    http_without_keys: bool = False
    page: PageSettings | None = None


class Sink:
    """One dataset, one socket. `run` returns after `stop` was called and everything whole is durable."""

    def __init__(self, config: SinkConfig, disk: Disk | None = None) -> None:
        """Lock, recover, bind. disk: in place of the real one. Raises ConfigurationError, DatasetError."""
        check_endpoint(config.bind, has_keys=config.keys is not None, anyone="write to the dataset")
        if config.http:
            parse_address(config.http)
            check_http(config.http, config.http_without_keys)
        self.config = config
        self.metrics = Metrics()
        self.metrics.credit.set(config.delivery.credit_bytes)
        self._access = Access(config.keys, self.metrics.rejected) if config.keys else None
        self._announcer = self._announcer_for(config.announce)
        self._log = LimitedLog(log)  # for what strangers cause
        self._stop_at: float | None = None
        self._notifier = ServiceNotifier(os.environ)
        self._notifier.starting(f"recovering {config.data}")
        epoch = secrets.randbits(62)
        self.delivery = SinkDelivery(config.delivery, epoch, time.monotonic())
        self.board = StatusBoard(config.data, epoch)
        with ExitStack() as undo:
            lock = DirectoryLock(config.data)
            undo.callback(lock.release)
            quota = None if config.quota_bytes is None else Quota(config.data, config.quota_bytes)
            self._writer = Writer(config.data, config.shard_bytes, dataset_uuid(config.data), disk or Disk(quota))
            self._writer.start()
            undo.callback(self._writer.stop)
            self._recover()
            context = zmq.Context()
            undo.callback(context.term)
            if self._access is not None:
                undo.callback(self._access.start(context).close)
            self._socket = context.socket(zmq.ROUTER)
            undo.callback(self._socket.close)
            self._connections = ConnectionGuard(self._socket, config.connections, self.metrics.guard)
            undo.callback(self._connections.close)
            self._bind()
            if config.bind.startswith("ipc://"):
                os.chmod(config.bind.removeprefix("ipc://"), 0o600)  # whoever may connect may publish
            lock.say(self.endpoint)
            self.http_address: str | None = None
            if config.http:
                http = HttpServer(config.http, self.metrics.registry, self.board.health, lambda: self.board.latest)
                undo.callback(http.close)
                self.http_address = http.address
                if config.page is not None:
                    page = PageProcess(config.page.handed(config.data, http.address))
                    undo.callback(page.close)
                    http.hand_on(page.take)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Drain and return from `run`; may be called from a signal handler."""
        if self._stop_at is None:
            self._stop_at = time.monotonic()

    @property
    def stopping(self) -> bool:
        """stop() was called."""
        return self._stop_at is not None

    def run(self) -> None:
        """Serve until stopped. Raises what the disk raised, if it fails."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._writer.wake_fd, zmq.POLLIN)
        next_tick = 0.0
        try:
            self._notifier.ready(f"ready, producers at {self.endpoint}")
            if self._announcer is not None:
                self._announcer.ready(self.endpoint, self.http_address)
            while not self._drained():
                self._notifier.alive(time.monotonic())
                ready = dict(poller.poll(100))
                if self._socket in ready:
                    self._receive_burst()
                if self._writer.wake_fd in ready:
                    for report in self._writer.take_reports():
                        self._handle(report)
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + _TICK_S
                    self._submit(self.delivery.tick(now))
                    self._close_revoked(now)
                    self._refresh(now)
                self._send_all()
            self._finish()
            if self._announcer is not None:
                self._announcer.stopped()
        finally:
            self._undo.close()

    # --- starting and stopping --------------------------------------------------------------------------------

    def _announcer_for(self, asked: Announce | None) -> Announcer | None:
        if asked is None:
            return None
        public_key = self._access.public_key if self._access is not None else None
        return Announcer(asked, "sink", self.config.bind, PROTOCOL_VERSION, public_key)

    def _recover(self) -> None:
        """Open every stream that is on disk before the first producer is heard."""
        expected = streams_on_disk(self.config.data)
        for spec in expected:
            self._writer.submit(OpenStream(spec))
        began = time.monotonic()
        while len(self.delivery.books) < len(expected):
            zmq.select([self._writer.wake_fd], [], [], 1.0)
            for report in self._writer.take_reports():
                if isinstance(report, OpenFailed):
                    raise DatasetError(report.why)
                self._handle(report)
        if expected:
            count = sum(totals.episodes for totals in self.board.streams.values())
            seconds = time.monotonic() - began
            log.info("recovered %d committed episodes of %d streams in %.2f s", count, len(expected), seconds)

    def _bind(self) -> None:
        socket = self._socket
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.ROUTER_HANDOVER, 1)
        socket.set(zmq.LINGER, 1000)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.set(zmq.RCVHWM, 256)
        socket.set(zmq.SNDHWM, 10_000)
        socket.set(zmq.BACKLOG, 1024)
        keep_alive(socket)
        if self._access is not None:
            self._access.secure(socket)
        try:
            socket.bind(self.config.bind)
        except zmq.ZMQError as error:
            why = os.strerror(error.errno or 0)
            raise ConfigurationError(
                f"cannot bind {self.config.bind}: {why}; is another sink there? Choose another --bind"
            ) from error
        self.endpoint = socket.get_string(zmq.LAST_ENDPOINT)

    def _drained(self) -> bool:
        if self._stop_at is None:
            return False
        if not self.delivery.draining:
            count = self.delivery.committing
            log.info("draining: %d episodes are being committed (again to end at once)", count)
            self._notifier.stopping(f"draining: {count} episodes are being committed")
            self.delivery.drain()
            self.board.draining = True
        late = time.monotonic() - self._stop_at > _DRAIN_LIMIT_S
        if late:
            log.warning("%d episodes were not committed in time; their producers keep them", self.delivery.committing)
        return late or not self.delivery.committing

    def _finish(self) -> None:
        """Tell what the writer's last commit made durable."""
        for report in self._writer.stop():
            self._handle(report)
        self._send_all()

    # --- the loop ---------------------------------------------------------------------------------------------

    def _receive_burst(self) -> None:
        for _ in range(_BURST):
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                return
            self._receive(self._socket.recv_multipart(zmq.NOBLOCK, copy=False))

    def _receive(self, frames: list[Any]) -> None:
        now = time.monotonic()
        peer = frames[0].bytes
        self._connections.took(peer, frames[0].get(zmq.SRCFD), sum(map(len, frames)), len(frames))
        if len(frames) < 2:
            return  # no header, so nobody to answer
        if self._access is not None and not self._access.admits(peer, frames[1]):
            return
        header = frames[1].buffer
        try:
            message = decode_from_producer(header)
        except ProtocolError as error:
            self._submit(self._reject_undecodable(now, peer, header, str(error)))
            return
        # A small frame would keep the whole batch alive that libzmq read it with.
        payload = [frame.buffer if len(frame) > _BATCH_BYTES else frame.bytes for frame in frames[2:]]
        self.metrics.messages.labels(type(message).__name__).inc()
        orders = self.delivery.receive(now, peer, message, tuple(map(len, payload)))
        self._submit(orders, payload)

    def _reject_undecodable(self, now: float, peer: bytes, header: memoryview, why: str) -> list[Order]:
        known = self.delivery.sessions.get(peer)
        envelope = decode_envelope(header)
        if envelope is None and known is not None:
            envelope = known.number, None
        if envelope is None:
            # Nobody to answer: without a session number, nobody would know that it is the answer.
            self._log.warning("dropped", "dropped a message of %s: %s", peer.hex()[:12], why)
            self.metrics.refused.labels("bad_message").inc()
            return []
        session, version = envelope
        if version is not None and version != PROTOCOL_VERSION:
            why = f"the sink speaks version {PROTOCOL_VERSION}, the producer {version}; install the same release"
            return self.delivery.reject_peer(now, peer, session, "protocol_version", why)
        return self.delivery.reject_peer(now, peer, session, "bad_message", why[:4000])

    def _close_revoked(self, now: float) -> None:
        """Take nothing more from those whose key was revoked; their indices go to others."""
        for peer in self._access.revoked(self.delivery.sessions) if self._access is not None else ():
            session = self.delivery.sessions[peer]
            log.warning("%s: its key was revoked, its session is over", session.producer.name)
            why = "your key was revoked"
            self._submit(self.delivery.reject_peer(now, peer, session.number, "unknown_session", why))

    def _submit(self, orders: list[Order], payload: list[Any] | None = None) -> None:
        for order in orders:
            takes = isinstance(order, Append | Finish | Keep)
            self._writer.submit(order, payload if takes and payload else ())

    def _handle(self, report: Report) -> None:
        now = time.monotonic()
        match report:
            case Opened():
                totals = self.board.stream(report.spec.name)
                totals.episodes, totals.successes = len(report.committed), len(report.successes)
                self._submit(self.delivery.stream_opened(now, report.spec, report.committed, report.successes))
            case OpenFailed():
                self._log.warning("storage", "stream %s: %s", report.stream, report.why)
                self.delivery.stream_failed(report.stream, report.why)
            case CommittedEpisode():
                self._committed(now, report)
            case Rejected():
                attempt = report.attempt
                self._log.warning("rejected", "%s of %s: %s", attempt.stream, attempt.producer, report.why)
                self.delivery.rejected(now, report.attempt, report.code, report.why)
            case Consumed():
                self._consumed(report)
            case Stalled():
                self._stalled(report)
            case Short():
                self._short(report)
            case CommitDone():
                self.metrics.commit_seconds.observe(report.seconds)
            case Rolled():
                self.metrics.roll_seconds.observe(report.seconds)
            case WriterFailed():
                if isinstance(report.error, OSError):
                    raise DatasetError(f"cannot write to {self.config.data}: {report.error}") from report.error
                raise report.error

    def _committed(self, now: float, report: CommittedEpisode) -> None:
        attempt = report.attempt
        self.delivery.committed(now, attempt.stream, attempt.index, report.outcome)
        self.board.note_commit(attempt.stream, report.outcome, report.steps)
        self.metrics.episodes.labels(attempt.stream, report.outcome.name.lower()).inc()
        self.metrics.steps.labels(attempt.stream).inc(report.steps)
        self.metrics.ack_seconds.observe(report.delay_s)
        if report.outcome is Outcome.VOID:
            log.debug("%s index %d: recorded as failed", attempt.stream, attempt.index)

    def _consumed(self, report: Consumed) -> None:
        totals = self.board.stream(report.stream)
        totals.payload_bytes += report.size
        totals.frames += report.frames
        self.metrics.bytes.labels(report.stream).inc(report.size)
        self.metrics.frames.labels(report.stream).inc(report.frames)
        self.delivery.consumed(report.session, report.size)

    def _stalled(self, report: Stalled) -> None:
        totals = self.board.stream(report.stream)
        if totals.waits != report.why:
            log.log(logging.ERROR if report.why else logging.INFO, "%s: %s", report.stream, report.why or "goes on")
            self.delivery.notice(report.stream, report.why)
        totals.waits = report.why
        self.metrics.stalled.labels(report.stream).set(bool(report.why))

    def _short(self, report: Short) -> None:
        totals = self.board.stream(report.stream)
        if not report.why:
            log.info("%s: there is room for the next shard again", report.stream)
        elif not totals.waits:
            log.warning("%s: will have to wait when its shard is full: %s", report.stream, report.why)
        totals.shortage = report.why

    def _send_all(self) -> None:
        for peer, message in self.delivery.take_outbox():
            if isinstance(message, Refused):
                self.metrics.refused.labels(message.code).inc()
                if message.code != "unknown_session":
                    kind = f"refused: {message.code}"
                    self._log.warning(kind, "refused %s: %s: %s", peer.hex()[:12], message.code, message.why)
            header = encode(message)
            self._connections.answered(peer, len(header), message.credit if isinstance(message, Welcome) else 0)
            try:
                self._socket.send_multipart([peer, header], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # EHOSTUNREACH: the producer is gone. EAGAIN: it does not read. Either way it will notice the gap
                # in `seq` and say Hello again.
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                self.metrics.unreachable.inc()

    def _refresh(self, now: float) -> None:
        self._connections.serves(self.delivery.sessions, self.delivery.waiting)
        self._log.flush()
        self.board.refresh(now, self.delivery)
        self.metrics.producers.set(len(self.delivery.sessions))
        self.metrics.in_flight.set(self.delivery.credit.in_flight_bytes)
        self.metrics.disk_free.set(self.board.latest["disk_free_bytes"])
        for stream, book in self.delivery.books.items():
            self.metrics.leases.labels(stream).set(len(book.leases))
        self._notifier.progress(now, self._status_line(now))

    def _status_line(self, now: float) -> str:
        line, busy_s = self.board.line(), self._writer.busy_s(now)
        return line if busy_s < _DISK_HANGS_S else f"{line}; the disk has not answered for {busy_s:.0f} s"
