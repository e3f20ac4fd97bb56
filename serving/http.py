"""A server's small HTTP side: /metrics for Prometheus, /healthz for supervisors, /status as JSON for people's tools.

Connections that ask for anything else may be handed on to another process, which has the time for it.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from protocol.endpoint import parse_address
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# (problems, warnings), a sentence each: with any problem the server is not healthy.
Health = Callable[[], tuple[list[str], list[str]]]
Status = Callable[[], dict[str, Any]]

# Takes a connection, nothing of which was read, into a process of its own; or says why it cannot.
HandOn = Callable[[socket.socket], str | None]

# Each has a thread; more are closed at once.
MAX_CONNECTIONS = 32
_OWN = re.compile(rb"[A-Z]+ /(metrics|healthz|status)[ ?]")
# A connection that says nothing for so long is closed.
_SILENCE_S = 10
# How often to look for the rest of a request's first line.
_LOOK_S = 0.02
_MOST_LINE = 256


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.hand_on: HandOn | None = None
        self.thread = threading.local()  # `refused`: why the connection of this thread was not handed on

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """There is a place for it."""
        del request, client_address
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve or hand on, and give the place back."""
        try:
            if self._is_ours(request):
                super().process_request_thread(request, client_address)
            else:
                request.close()  # of ours only: to shut it down would be to end it for the other process too
        finally:
            self._places.release()

    def _is_ours(self, request: socket.socket) -> bool:
        """It is to be answered here: it was not handed on, and has not ended without a word."""
        self.thread.refused = None
        if self.hand_on is None:
            return True
        line = _first_line(request)
        if line is None or _OWN.match(line):
            return line is not None
        self.thread.refused = self.hand_on(request)
        return self.thread.refused is not None


def _first_line(request: socket.socket) -> bytes | None:
    """The beginning of its first request, which stays unread; None if there is none for too long.

    It is waited for as long as a request is elsewhere: browsers open connections ahead and use them later.
    """
    ends = time.monotonic() + _SILENCE_S
    request.settimeout(_SILENCE_S)
    try:
        while time.monotonic() < ends:
            seen = request.recv(_MOST_LINE, socket.MSG_PEEK)
            if not seen:
                return None
            if b"\n" in seen or len(seen) == _MOST_LINE:
                return seen
            time.sleep(_LOOK_S)
    except OSError:
        return None
    return None


class _QuietHandler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def handle(self) -> None:
        """A client that says nothing, or goes away in the middle, is no error of ours."""
        try:
            super().handle()
        except (TimeoutError, ConnectionError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class HttpServer:
    """Serves in threads of its own. What it asks must be cheap, and safe to call from any thread."""

    def __init__(self, address: str, registry: CollectorRegistry, health: Health, status: Status | None = None) -> None:
        """address: HOST:PORT. status: None for no /status. Raises ConfigurationError if it cannot be bound."""
        host, port = parse_address(address)
        self._health, self._status, self._metrics = health, status, make_wsgi_app(registry)
        try:
            self._server = make_server(host, port, self._app, server_class=_Server, handler_class=_QuietHandler)
        except OSError as error:
            why = f"cannot serve HTTP on {address}: {error.strerror}; choose another --http"
            raise ConfigurationError(why) from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def hand_on(self, others: HandOn) -> None:
        """From now on connections that begin with another request than ours go there."""
        self._server.hand_on = others

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path == "/status" and self._status is not None:
            body = msgspec.json.encode(self._status())
            start_response("200 OK", [("Content-Type", "application/json")])
            return [body]
        if path == "/healthz":
            problems, warnings = self._health()
            start_response("503 Service Unavailable" if problems else "200 OK", [("Content-Type", "text/plain")])
            lines = [*(problems or ["ok"]), *(f"warning: {warning}" for warning in warnings)]
            return ["\n".join(lines).encode() + b"\n"]
        refused = getattr(self._server.thread, "refused", None)
        if refused is not None:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{refused}\n".encode()]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        pages = "/metrics, /healthz or /status" if self._status is not None else "/metrics or /healthz"
        return [f"expected {pages}\n".encode()]
