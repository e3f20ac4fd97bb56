"""A producer written from protocol/SPEC.md alone: it imports nothing of Headrace. Numbers in brackets are its sections.

    python stranger.py ENDPOINT

It makes the four episodes of one small stream, loses its session twice on purpose, and prints what it sent as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
from typing import Any

import msgpack
import simplejpeg
import xxhash
import zmq

CAMERAS = [{"name": "front", "height": 24, "width": 32}, {"name": "wrist", "height": 16, "width": 16}]
COLUMNS = [
    {"name": "action", "dtype": "float32", "shape": [3]},
    {"name": "observations/tick", "dtype": "int64"},  # shape [] and allow_nan false are the defaults, 2.6
]
SPEC = {"name": "stranger/two_cameras", "rate_hz": 20, "max_steps": 12, "columns": COLUMNS, "cameras": CAMERAS}
MODEL = b"<mujoco model='stranger'/>"
EPISODES = {0: (1, 10), 1: (3, 0), 2: (2, 3), 3: (1, 12)}  # index → outcome, steps: 2.4
LIMIT_S = 60.0

Part = tuple[str, dict[str, Any], list[bytes]]


class SessionLostError(Exception):
    """The session is broken; open another one (2.7)."""


class Stranger:
    """One DEALER socket and one session at a time."""

    def __init__(self, endpoint: str) -> None:
        self.context, self.endpoint = zmq.Context(), endpoint
        self.identity = b"s" + os.urandom(16)  # 2.1: kept for the life of the process
        self.socket: zmq.Socket[bytes] | None = None
        self.give_up = time.monotonic() + LIMIT_S
        self.sessions = 0
        self.patience_s = 1.0  # for a welcome; 2.16

    def open(self, holding: list[int]) -> dict[str, Any]:
        """Say hello on a new socket until there is a welcome (2.7, 2.16)."""
        while True:
            if self.socket is not None:
                self.socket.close(linger=0)  # without a word
            self.socket = self.context.socket(zmq.DEALER)
            for option, value in ((zmq.IDENTITY, self.identity), (zmq.LINGER, 0), (zmq.MAXMSGSIZE, 4194304)):
                self.socket.set(option, value)
            self.socket.connect(self.endpoint)
            self.session = int.from_bytes(os.urandom(8), "big") >> 1
            self.next_in = self.next_out = self.credit = 0
            self.sessions += 1
            self.heartbeat_s, self.last_ping, self.last_heard = 1.0, time.monotonic(), time.monotonic()
            me, goal = {"name": "a stranger"}, {"start": 0, "end": len(EPISODES)}
            self.send("hello", protocol=1, producer=me, spec=SPEC, goal=goal, holding=holding)
            try:
                welcome = self.receive()
            except SessionLostError:
                self.patience_s = min(2 * self.patience_s, 8.0)
                continue
            self.patience_s = 1.0
            assert welcome["type"] == "welcome", welcome
            self.credit, self.heartbeat_s = welcome["credit"], welcome["heartbeat_s"]
            return welcome

    def send(self, kind: str, payload: list[bytes] | None = None, **fields: Any) -> None:
        """Send one message; its payload must be covered by the credit (2.9)."""
        assert self.socket is not None
        header = {"type": kind, "session": self.session, "seq": self.next_out, **fields}
        self.next_out += 1
        self.credit -= sum(map(len, payload or []))
        assert self.credit >= 0, (kind, self.credit)
        self.socket.send_multipart([msgpack.packb(header), *(payload or [])])

    def receive(self) -> dict[str, Any]:
        """The next message of this session; pings meanwhile (2.16). Credit is added up here."""
        assert self.socket is not None
        while True:
            now = time.monotonic()
            assert now < self.give_up, "the sink took too long"
            if now - self.last_heard > (max(3 * self.heartbeat_s, 1.0) if self.next_in else self.patience_s):
                raise SessionLostError("the sink is silent")
            if self.next_in and now - self.last_ping >= self.heartbeat_s:
                self.last_ping = now
                self.send("ping", state="being strange")
            if not self.socket.poll(100):
                continue
            message = msgpack.unpackb(self.socket.recv_multipart()[0])
            if message["session"] != self.session:
                continue  # 2.7, 4
            if message["type"] == "refused" and message.get("index") is None:
                assert message["code"] == "unknown_session", message  # 2.14: what else there is means stop
                raise SessionLostError(message["why"])
            if message["seq"] > self.next_in:
                raise SessionLostError("a message was lost")
            if message["seq"] < self.next_in:
                continue
            self.next_in += 1
            self.last_heard = time.monotonic()
            self.credit += message["bytes"] if message["type"] == "credit" else 0
            return message


def jpeg(camera: dict[str, Any], index: int, step: int) -> bytes:
    """Some picture, upright RGB."""
    height, width = camera["height"], camera["width"]
    pixels = bytes(
        (37 * index + 11 * step + 5 * row + column) % 256 for row in range(height) for column in range(3 * width)
    )
    return bytes(simplejpeg.encode_jpeg(memoryview(pixels).cast("B", (height, width, 3)), quality=90))


def parts(index: int) -> tuple[list[Part], dict[str, Any]]:
    """An episode as the messages it takes (2.10), and what a reader must find."""
    outcome, count = EPISODES[index]
    frames = [[jpeg(camera, index, step) for camera in CAMERAS] for step in range(count)]
    action = struct.pack(f"<{3 * count}f", *(index + 0.5 * n for n in range(3 * count)))
    tick = struct.pack(f"<{count}q", *(1000 * index - n for n in range(count)))
    name = hashlib.sha256(MODEL).hexdigest()
    named = {"documents": {"model.xml": name}} if outcome != 3 else {}
    attributes = json.dumps({"success": outcome == 1, "steps": count, "seed": index + 1, **named}).encode()
    columns = [action, tick] if outcome != 3 else []
    sums = [xxhash.xxh3_64_intdigest(frame[c]) & 0xFFFFFFFF for c in range(len(CAMERAS)) for frame in frames]
    covered = struct.pack(f"<{len(sums)}I", *sums) + b"".join(columns) + attributes  # 2.13
    end = {
        "index": index, "outcome": outcome, "steps": count, "seed": index + 1,
        "began_ns": 10 + index, "ended_ns": 20 + index, "checksum": xxhash.xxh3_64_intdigest(covered),
        "documents": list(named.get("documents", {}).values()),
    }  # fmt: skip
    batches = [(first, frames[first : first + 4]) for first in range(0, count, 4)]
    messages: list[Part] = [("begin", {"index": index}, [])]
    for first, batch in batches:
        images = [frame for step in batch for frame in step]
        fields = {"index": index, "first": first, "count": len(batch), "sizes": [len(image) for image in images]}
        messages.append(("frames", fields, [b"".join(images)]))
    messages.append(("end", end, [attributes, *columns]))
    sent = {**end, "attributes": attributes.hex(), "action": action.hex(), "tick": tick.hex()}
    sent["frames"] = {camera["name"]: [step[c].hex() for step in frames] for c, camera in enumerate(CAMERAS)}
    return messages, sent


class Delivery:
    """Every index of the goal, whatever happens. The two losses are at fixed places."""

    def __init__(self, stranger: Stranger) -> None:
        self.stranger = stranger
        self.queues: dict[int, list[Part]] = {}  # leased, not committed: what is still to be sent
        self.committed: list[int] = []
        self.answers: list[dict[str, Any]] = []
        self.losses = ["in the middle of an episode", "after an end"]

    def run(self) -> None:
        """Until done and all committed (2.15)."""
        self.open()
        done = False
        while not done or self.queues:
            try:
                self.pump()
                message = self.stranger.receive()
            except SessionLostError:
                self.open()
                continue
            match message["type"]:
                case "leased":
                    self.queues.update({index: parts(index)[0] for index in message["indices"]})
                case "committed":
                    self.settle(message["index"])
                case "credit" if len(self.queues.get(0, [])) == 2 and "in the middle of an episode" in self.losses:
                    self.losses.remove("in the middle of an episode")  # the sink has written frames of it
                    self.open()
                case "done":
                    done = True
                case "refused":
                    raise AssertionError(message)

    def open(self) -> None:
        """A new session, and what it says about the old one (2.7)."""
        welcome = self.stranger.open(sorted(self.queues))
        self.document_sent = False
        self.answers.append({answer: welcome[answer] for answer in ("leased", "pending", "committed", "lost")})
        self.queues.update({index: parts(index)[0] for index in welcome["leased"]})
        self.queues.update({index: [] for index in welcome["pending"]})
        for index in welcome["committed"]:
            self.settle(index)
        assert not welcome["lost"], welcome
        if wanted := len(EPISODES) - len(self.queues) - len(self.committed):
            self.stranger.send("want", count=wanted)

    def settle(self, index: int) -> None:
        """Only now may it be forgotten."""
        if self.queues.pop(index, None) is not None:
            self.committed.append(index)

    def pump(self) -> None:
        """Send what the credit covers, the indices mixed; a document before the first end that names it (2.10)."""
        for index, queue in sorted(self.queues.items()):
            while queue:
                if index == 0 and len(queue) == 2 and "in the middle of an episode" in self.losses:
                    break  # the rest waits until credit comes back, and then for another session
                kind, fields, payload = queue[0]
                if fields.get("documents") and not self.document_sent:
                    kind, fields, payload = "document", {"sha256": hashlib.sha256(MODEL).hexdigest()}, [MODEL]
                if sum(map(len, payload)) > self.stranger.credit:
                    break
                self.stranger.send(kind, payload, **fields)
                if kind == "document":
                    self.document_sent = True
                else:
                    del queue[0]
                if kind == "end" and index == 3 and "after an end" in self.losses:
                    self.losses.remove("after an end")
                    raise SessionLostError


def main() -> None:
    """Deliver, and say what was sent."""
    stranger = Stranger(sys.argv[1])
    delivery = Delivery(stranger)
    delivery.run()
    stranger.send("bye")
    assert stranger.socket is not None
    stranger.socket.close(linger=500)
    stranger.context.term()
    result = {"spec": SPEC, "episodes": {index: parts(index)[1] for index in EPISODES}, "document": MODEL.hex()}
    result |= {"sessions": stranger.sessions, "committed": delivery.committed, "answers": delivery.answers}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
