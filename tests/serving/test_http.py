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


def test_what_is_not_ours_is_handed_on_untouched(no_leaks: None) -> None:
    del no_leaks
    taken: list[socket.socket] = []

    def take(connection: socket.socket) -> str | None:
        if len(taken) == 1:
            return "there was one already"
        taken.append(connection.dup())
        return None

    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: ([], []))
    server.hand_on(take)
    place = ("127.0.0.1", int(server.address.rpartition(":")[2]))
    request = b"GET /healthzz HTTP/1.1\r\n\r\n"
    try:
        with socket.create_connection(place, 5) as stream:
            for piece in (request[:9], request[9:]):
                stream.sendall(piece)
            wait_until(lambda: taken, "handed on")
            with taken[0] as other:
                assert other.recv(100) == request
                other.sendall(b"from elsewhere")
            assert stream.recv(100) == b"from elsewhere"
        for path, wanted in ((b"/healthz", b"200 OK"), (b"/metrics", b"200 OK"), (b"/", b"503 Service Unavailable")):
            with socket.create_connection(place, 5) as stream:
                stream.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
                answer = b"".join(iter(lambda: stream.recv(4096), b""))
                assert wanted in answer
        assert answer.endswith(b"there was one already\n")
    finally:
        server.close()
