"""/metrics for Prometheus and /healthz for supervisors, from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import CollectorRegistry, generate_latest

from protocol.endpoint import check_http, parse_address
from protocol.errors import ConfigurationError

# (problems, warnings): with any problem the server is not healthy.
Health = Callable[[], tuple[list[str], list[str]]]
# One request at a time is answered; who sends nothing is not waited for longer than this.
_SILENCE_S = 2.0


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENCE_S
    registry: CollectorRegistry
    health: Health

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/healthz":
            problems, warnings = self.health()
            lines = [*(problems or ["ok"]), *(f"warning: {warning}" for warning in warnings)]
            self._answer(503 if problems else 200, "\n".join(lines).encode() + b"\n")
        else:
            self._answer(404, b"expected /metrics or /healthz\n")

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is no error of ours."""
        del request, client_address


class HttpServer:
    """Serves until it is closed."""

    def __init__(self, address: str, registry: CollectorRegistry, health: Health) -> None:
        """address: HOST:PORT on loopback. Raises ConfigurationError."""
        host, port = parse_address(address)
        check_http(address)
        handler = type("Handler", (_Handler,), {"registry": registry, "health": staticmethod(health)})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            why = f"cannot serve HTTP on {address}: {error.strerror}; choose another --http"
            raise ConfigurationError(why) from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
