"""Clients for a comparison of servers: each asks again when it has its answer. One thread; the bytes are ready made.

The same for ZeroMQ and for HTTP, so that what the clients cost is about the same. `python -m deploy.bench.infer.load`
WORDS, a JSON object as its last word; prints a JSON object.
"""

from __future__ import annotations

import base64
import json
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import zmq

SILENCE_S = 30.0


@dataclass(frozen=True)
class Load:
    """address: tcp://HOST:PORT, or http://HOST:PORT/PATH. queries: file with one query a client, JSON of base64.

    as_json: the body is {"query": base64} in place of the bytes. warm_s is not counted.
    """

    address: str
    queries: str
    as_json: bool
    warm_s: float
    seconds: float


class LoadError(Exception):
    """The server did not answer as it should."""


def main(words: str) -> dict[str, Any]:
    """Run the load; throughput [queries/s] and latencies [ms]."""
    load = Load(**json.loads(words))
    bodies = [base64.b64decode(text) for text in json.loads(Path(load.queries).read_text())]
    clients = _zmq_clients(load, bodies) if load.address.startswith("tcp://") else _http_clients(load, bodies)
    try:
        latencies = _closed_loop(clients, load)
    finally:
        for client in clients:
            client.file.close()
    cuts = quantiles(latencies, n=100)
    return {"per_s": len(latencies) / load.seconds, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


@dataclass
class _Client:
    file: Any  # what is waited for
    ask: Callable[[], None]
    hear: Callable[[], bool]  # False if that was not all of the answer
    asked_at: float = 0.0


def _closed_loop(clients: list[_Client], load: Load) -> list[float]:
    latencies = []
    counts_from = time.perf_counter() + load.warm_s
    ends = counts_from + load.seconds
    for client in clients:
        client.asked_at = time.perf_counter()
        client.ask()
    waiting = _waiter(clients)
    while time.perf_counter() < ends:
        for client in waiting(SILENCE_S):
            if client.hear():
                now = time.perf_counter()
                if counts_from <= now < ends:
                    latencies.append(now - client.asked_at)
                client.asked_at = now
                client.ask()
    return latencies


def _waiter(clients: list[_Client]) -> Callable[[float], Iterator[_Client]]:
    if isinstance(clients[0].file, zmq.Socket):
        poller = zmq.Poller()
        found = {client.file: client for client in clients}
        for client in clients:
            poller.register(client.file, zmq.POLLIN)

        def ready(limit_s: float) -> Iterator[_Client]:
            events = poller.poll(int(limit_s * 1000))
            if not events:
                raise LoadError("no answer")
            return (found[file] for file, _ in events)

        return ready
    selector = selectors.PollSelector()
    for client in clients:
        selector.register(client.file, selectors.EVENT_READ, client)

    def selected(limit_s: float) -> Iterator[_Client]:
        events = selector.select(limit_s)
        if not events:
            raise LoadError("no answer")
        return (key.data for key, _ in events)

    return selected


def _zmq_clients(load: Load, bodies: list[bytes]) -> list[_Client]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    clients = []
    for body in bodies:
        made = context.socket(zmq.DEALER)
        made.set(zmq.LINGER, 0)
        made.connect(load.address)
        clients.append(_zmq_client(made, body))
    return clients


def _zmq_client(made: zmq.Socket[bytes], body: bytes) -> _Client:
    def hear() -> bool:
        answer = made.recv()
        if b"answer" not in answer[:32]:
            raise LoadError(repr(answer[:300]))
        return True

    return _Client(made, lambda: made.send(body) and None, hear)


def _http_clients(load: Load, bodies: list[bytes]) -> list[_Client]:
    host, _, path = load.address.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    clients = []
    for body in bodies:
        kind = "application/json" if load.as_json else "application/octet-stream"
        text = json.dumps({"query": base64.b64encode(body).decode()}).encode() if load.as_json else body
        head = f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
        connection = socket.create_connection((name, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients.append(_http_client(connection, head.encode() + text))
    return clients


def _http_client(connection: socket.socket, request: bytes) -> _Client:
    buffer = bytearray()

    def hear() -> bool:
        piece = connection.recv(65536)
        if not piece:
            raise LoadError("the server hung up")
        buffer.extend(piece)
        head, mark, body = buffer.partition(b"\r\n\r\n")
        if not mark:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise LoadError(repr(bytes(buffer[:300])))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < int(length.partition(b":")[2]):
            return False
        buffer.clear()
        return True

    return _Client(connection, lambda: connection.sendall(request), hear)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
