"""A real server in a thread of its own, and a client that sends what it likes."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
import zmq

from inference.model import ModelSource
from inference.server import Server, ServerConfig
from protocol.namo.queries import FromClient, FromServer, Query, decode_from_server, encode
from tests.inference.scenes import SmallSource

RunServer = Callable[..., Server]
DEADLINE_MS = 30_000


@contextmanager
def running(source: ModelSource, config: ServerConfig) -> Iterator[Server]:
    """Run a server until the body ends; what it raised is raised here."""
    server = Server(source, config)
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            server.run()
        except BaseException as error:  # handed over below
            raised.append(error)

    thread = threading.Thread(target=serve, name="server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive(), "the server does not stop"
    if raised:
        raise raised[0]


@pytest.fixture
def source() -> SmallSource:
    return SmallSource()


@pytest.fixture
def run_server(source: SmallSource, no_leaks: None) -> Iterator[RunServer]:
    """Starts servers; they are stopped when the test ends, and must leave nothing behind."""
    del no_leaks
    with ExitStack() as servers:

        def start(**changes: Any) -> Server:
            settings: dict[str, Any] = {
                "bind": "tcp://127.0.0.1:0",
                "http": "127.0.0.1:0",
                "look_s": 0.02,
                "again_s": 0.05,
            }
            return servers.enter_context(running(source, ServerConfig(**{**settings, **changes})))

        yield start


class RawClient:
    """A DEALER. `with` closes it."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self._context.term()

    def send(self, message: FromClient, **changes: Any) -> None:
        self.socket.send(encode(msgspec.structs.replace(message, **changes)))

    def hear(self) -> FromServer:
        assert self.socket.poll(DEADLINE_MS), "no answer"
        return decode_from_server(self.socket.recv())

    def ask(self, message: Query, **changes: Any) -> FromServer:
        self.send(message, **changes)
        return self.hear()

    @property
    def silent(self) -> bool:
        return not self.socket.poll(0)


def fetch(server: Server, path: str) -> tuple[int, str]:
    """Status and text of an HTTP page."""
    try:
        with urllib.request.urlopen(f"http://{server.http_address}{path}", timeout=10) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(server: Server, name: str, **labels: str) -> float:
    """A sample of the server's registry; 0 if it was never counted."""
    return server.metrics.registry.get_sample_value(f"headrace_infer_{name}", labels) or 0.0
