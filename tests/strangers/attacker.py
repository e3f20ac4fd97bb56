"""`python -m tests.strangers.attacker ENDPOINT MESSAGES SEED PARTS`: malformed messages as fast as the sink takes them.

Several identities speak in turn. Each batch ends with an honest Hello whose Welcome is awaited: so everything before it
was looked at, and the sink still serves this very connection. Prints the counts as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter

import msgpack
import zmq

from tests.fakes import counted_episode, counting_spec
from tests.strangers.malformed import KINDS, Message, Talk

IDENTITIES = 6
BATCH_BYTES = 100_000
PATIENCE_S = 60.0


def recorded() -> list[Message]:
    """An honest conversation of a counting producer, whose session is long over."""
    spec = counting_spec()
    made = counted_episode(spec, 0)
    fields = {"protocol": 1, "producer": {"name": "recorded"}, "spec": json.loads(spec.to_json()), "goal": {}}
    bodies: list[tuple[str, dict[str, object], list[bytes]]] = [
        ("hello", fields, []), ("want", {"count": 1}, []), ("begin", {"index": 0}, []),
        *(
            ("frames", {"index": 0, "first": n, "count": 1, "sizes": [*map(len, images)]}, [b"".join(images)])
            for n, images in enumerate(made.messages())
        ),
    ]  # fmt: skip
    end = made.end()
    bodies.append(("document", {"sha256": end.documents[0]}, list(made.documents.values())))
    bodies.append(("end", {name: getattr(end, name) for name in end.__struct_fields__[2:]}, made.payload()))
    return [
        [msgpack.packb({"type": kind, "session": 4711, "seq": seq, **body}), *payload]
        for seq, (kind, body, payload) in enumerate(bodies)
    ]


class Stranger:
    """One identity and its connection."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, number: int) -> None:
        self._context, self._endpoint, self.number = context, endpoint, number
        self.refusals: Counter[str] = Counter()
        self.reconnected = -1
        self._connect()

    def _connect(self) -> None:
        self.reconnected += 1
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, b"stranger-%d-%d" % (self.number, self.reconnected))
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.SNDTIMEO, 2000)
        self.socket.connect(self._endpoint)

    def say(self, messages: list[Message]) -> None:
        try:
            for message in messages:
                self.socket.send_multipart(message)
        except zmq.Again:
            self.again()

    def again(self) -> None:
        """A new connection: the sink cut this one, which it may."""
        self.socket.close()
        self._connect()

    def welcomed(self, rng: random.Random) -> None:
        """Say an honest Hello until it is answered."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            talk = Talk(rng, "strangers/a", [])
            talk.hello()
            self.say(talk.messages)
            if self._answered(talk.session):
                return
            self.again()
        sys.exit(f"stranger {self.number} was not welcomed within {PATIENCE_S} s: the sink serves it no more")

    def _answered(self, session: int) -> bool:
        while self.socket.poll(3000):
            answer = msgpack.unpackb(self.socket.recv_multipart()[0])
            if answer["type"] == "refused":
                self.refusals[answer["code"]] += 1
            if answer["session"] == session:
                if answer["type"] == "welcome":
                    return True
                if answer["type"] == "refused" and answer["code"] == "too_many_producers":
                    time.sleep(0.05)  # not to wait for something: not to ask all the time
                    return False
        return False


def main(endpoint: str, messages: str, seed: str, parts: str) -> None:
    """Until so many malformed messages were sent, and looked at."""
    rng = random.Random(int(seed))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    strangers = [Stranger(context, endpoint, number) for number in range(IDENTITIES)]
    try:
        for part in range(int(parts)):
            attack(strangers, rng, int(messages) // int(parts), part)
    finally:
        for stranger in strangers:
            stranger.socket.close()
        context.term()


def attack(strangers: list[Stranger], rng: random.Random, messages: int, part: int) -> None:
    """Send, and print what was sent and answered."""
    replay = recorded()
    kinds: Counter[str] = Counter()
    sent = 0
    while kinds.total() < messages:
        stranger = rng.choice(strangers)
        size = 0
        while size < BATCH_BYTES:
            kind = rng.choice(KINDS)
            talk = Talk(rng, "strangers/a" if rng.random() < 0.9 else "strangers/b", replay)
            kind(talk)
            stranger.say(talk.messages)
            kinds[kind.__name__] += 1
            sent += len(talk.messages)
            size += sum(len(frame) + 30 for message in talk.messages for frame in message)
        stranger.welcomed(rng)
    refusals: Counter[str] = Counter()
    for stranger in strangers:
        refusals += stranger.refusals
        stranger.refusals.clear()
    found: dict[str, object] = {"malformed": kinds.total(), "sent": sent, "kinds": kinds, "refusals": refusals}
    sys.stderr.write(f"PART {part} " + json.dumps(found) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
