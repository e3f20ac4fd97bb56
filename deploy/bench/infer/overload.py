"""More queries than the server can answer: does each of them hear something in time?

An open loop: queries are sent when they are due, whether or not others were answered. `python -m
deploy.bench.infer.overload ENDPOINT QUERIES RATE SECONDS DEADLINE_S`; prints a JSON object.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from msgspec.structs import replace

from protocol.namo.queries import Answer, Failed, Query, decode_from_client, decode_from_server, encode

_CLIENTS = 32
_IN_TIME = ("answered", "busy", "expired")
# What the kernel, this program and a busy machine may add to a word that was said in time.
TOLERANCE_S = 0.05


@dataclass
class Overload:
    """heard: seconds from sending to the first word, by number. batch_s: the longest batch that was seen."""

    sent: dict[int, float] = field(default_factory=dict)
    heard: dict[int, tuple[str, float]] = field(default_factory=dict)
    batch_s: float = 0.0

    def note(self, data: bytes, now: float) -> None:
        """A message has come."""
        message = decode_from_server(data)
        code = message.code if isinstance(message, Failed) else "answered"
        if isinstance(message, Answer):
            self.batch_s = max(self.batch_s, message.timing.model_s + message.timing.draw_s)
        self.heard.setdefault(message.id, (code, now - self.sent[message.id]))


def overload(endpoint: str, queries: list[Query], rate: float, seconds: float, deadline_s: float) -> Overload:
    """Send `rate` queries a second, and listen until a good while after the last."""
    found, context, poller, sockets = Overload(), zmq.Context(), zmq.Poller(), []
    for _ in range(_CLIENTS):
        made = context.socket(zmq.DEALER)
        made.set(zmq.LINGER, 0)
        made.connect(endpoint)
        poller.register(made, zmq.POLLIN)
        sockets.append(made)
    bodies = [replace(query, deadline_s=deadline_s) for query in queries]
    began, total = time.perf_counter(), int(rate * seconds)
    listens_until = began + seconds + deadline_s + 5.0
    while (now := time.perf_counter()) < listens_until and len(found.heard) < total:
        due = min(int((now - began) * rate) + 1, total)
        for number in range(len(found.sent), due):
            data = encode(replace(bodies[number % len(bodies)], id=number))
            found.sent[number] = time.perf_counter()
            sockets[number % _CLIENTS].send(data)
        for socket, _ in poller.poll(1):
            data = socket.recv()
            found.note(data, time.perf_counter())
    for made in sockets:
        made.close()
    context.term()
    return found


def main(words: list[str]) -> None:
    """Run it."""
    endpoint, path, rate, seconds, deadline_s = words
    queries = [decode_from_client(base64.b64decode(text)) for text in json.loads(Path(path).read_text())]
    found = overload(
        endpoint, [q for q in queries if isinstance(q, Query)], float(rate), float(seconds), float(deadline_s)
    )
    limit_s = float(deadline_s) + found.batch_s + TOLERANCE_S
    in_time = sum(code in _IN_TIME and after_s <= limit_s for code, after_s in found.heard.values())
    counts = Counter(code for code, _ in found.heard.values())
    latest = max((after_s for _, after_s in found.heard.values()), default=0.0)
    result = {"share": in_time / len(found.sent), "counts": counts, "latest_s": latest, "batch_s": found.batch_s}
    sys.stdout.write(json.dumps({**result, "sent": len(found.sent)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
