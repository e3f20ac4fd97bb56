"""The HTTP side of a server, without the server."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from serving.http import MAX_CONNECTIONS, HttpServer
from tests.processes import wait_until


@pytest.fixture
def port(no_leaks: None) -> Iterator[int]:
    del no_leaks
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: ([], []))
    yield int(server.address.rpartition(":")[2])
    server.close()


def _ended(stream: socket.socket) -> bool:
    """The other side has closed."""
    stream.setblocking(False)
    try:
        while stream.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_http_has_few_places_and_gives_them_back(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(MAX_CONNECTIONS + 3)]
    try:
        wait_until(lambda: sum(map(_ended, silent)) == 3, "three are too many")
    finally:
        for stream in silent:
            stream.close()

    def answers() -> bool:
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            try:
                stream.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b"200 OK" in stream.recv(1000)
            except ConnectionError:  # it was closed at once: no place yet
                return False

    wait_until(answers, "there is a place again")
