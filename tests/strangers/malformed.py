"""Malformed messages, made from valid ones: each function is one way to be wrong. Seeded; knows nothing of the sink."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack
import numpy as np
import xxhash

from protocol.jpeg import encode

HEIGHT, WIDTH, STEPS = 16, 24, 6
COLUMNS = [{"name": "action", "dtype": "float32", "shape": [2]}, {"name": "touch", "dtype": "bool"}]
CAMERAS = [{"name": "front", "height": HEIGHT, "width": WIDTH}]
JPEG = encode(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
DOCUMENT = b"<model/>"
SHA256 = hashlib.sha256(DOCUMENT).hexdigest()
NUMBERS = (-1, 0, 2**31, 2**32 - 1, 2**32, 2**53, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 4097)
ODDITIES: tuple[Any, ...] = (None, -1, "x", [], {}, 1.5, float("nan"), float("inf"), True, b"\xff", [[]], {"a": {}}, "")
NAMES = (
    "../x", "/abs", "a//b", "a\0b", "x" * 5000, "lock", "dataset.json", "sink.lock", "tests/counting/000001.h5",
    "tests/counting/000001.h5.preparing", "dataset.draft", "..", ".", "", "a/../../x", "ä/ö", "\u202egnp", "a/", "/",
    "a\nb", "-rf", "~", "$HOME", "CON", "tests/counting/../../x", "a/b/c/d/e", " ", "x" * 128 + "/y", "a\\b", "logs",
    "%2e%2e/x", "x.h5", "tests/.h5", "tests//counting", "tests/counting/",
)  # fmt: skip

Message = list[bytes]
T = TypeVar("T")


def bomb(height: int, width: int, start: int = 0xC0, components: int = 3, precision: int = 8) -> bytes:
    """A JPEG of a few bytes that declares a size."""
    parts = b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"[: 3 * components]
    header = struct.pack(">HBHHB", 8 + 3 * components, precision, height, width, components)
    begin = b"\xff\xd8\xff" + bytes([start])
    return begin + header + parts + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00?\0\xff\xd9"


@dataclass
class Talk:
    """One conversation that is being written: `say` adds a valid message, `raw` whatever there is."""

    rng: random.Random
    stream: str
    replay: list[Message]
    session: int = 0
    seq: int = 0
    start: int = 0
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = self.rng.getrandbits(62)
        # Nobody else's range: so the first index that is leased is known before the sink has said it.
        self.start = self.rng.getrandbits(61)

    def header(self, kind: str, **fields: Any) -> dict[str, Any]:
        header = {"type": kind, "session": self.session, "seq": self.seq, **fields}
        self.seq += 1
        return header

    def say(self, kind: str, *payload: bytes, **fields: Any) -> None:
        self.messages.append([msgpack.packb(self.header(kind, **fields)), *payload])

    def spec(self, **changes: Any) -> dict[str, Any]:
        spec = {"name": self.stream, "rate_hz": 20.0, "max_steps": STEPS, "columns": COLUMNS, "cameras": CAMERAS}
        return {**spec, **changes}

    def hello_fields(self, **changes: Any) -> dict[str, Any]:
        goal = {"start": self.start, "end": self.start + 16}
        fields = {"protocol": 1, "producer": {"name": "stranger"}, "spec": self.spec(), "goal": goal}
        return {**fields, **changes}

    def hello(self, **changes: Any) -> None:
        self.say("hello", **self.hello_fields(**changes))

    def lease(self) -> int:
        """Hello, and an index that may be begun."""
        self.hello()
        self.say("want", count=self.rng.randrange(1, 4))
        return self.start

    def begin(self) -> int:
        index = self.lease()
        self.say("begin", index=index)
        return index

    def frames(self, index: int, first: int = 0) -> None:
        self.say("frames", JPEG, index=index, first=first, count=1, sizes=[len(JPEG)])

    def end(
        self, index: int, steps: int, payload: list[bytes] | None = None, changes: dict[str, Any] | None = None
    ) -> None:
        payload = payload or [b"{}", bytes(8 * steps), bytes(steps)]
        digest = xxhash.xxh3_64(struct.pack("<I", xxhash.xxh3_64_intdigest(JPEG) & 0xFFFFFFFF) * steps)
        for part in [*payload[1:], payload[0]]:
            digest.update(part)
        fields = {"index": index, "outcome": 1, "steps": steps, "seed": 1, "began_ns": 1, "ended_ns": 2}
        self.say("end", *payload, **{**fields, "checksum": digest.intdigest(), **(changes or {})})

    def any_header(self) -> dict[str, Any]:
        """The header of some valid message, after the messages that it needs."""
        rng = self.rng
        kind = rng.choice(("hello", "want", "begin", "frames", "document", "end", "abandon", "ping", "bye"))
        if kind == "hello":
            return self.header("hello", **self.hello_fields(holding=[rng.getrandbits(61)]))
        index = self.lease() if kind == "begin" else self.begin()
        fields: dict[str, dict[str, Any]] = {
            "want": {"count": 1}, "begin": {"index": index}, "document": {"sha256": SHA256},
            "abandon": {"index": index}, "ping": {"state": "s"}, "bye": {},
            "frames": {"index": index, "first": 0, "count": 1, "sizes": [len(JPEG)]},
            "end": {"index": index, "outcome": 3, "steps": 0, "seed": 1, "began_ns": 1, "ended_ns": 2, "checksum": 1,
                    "documents": [SHA256]},
        }  # fmt: skip
        return self.header(kind, **fields[kind])

    def raw(self, *frames: bytes) -> None:
        self.messages.append(list(frames))

    def payload_for(self, kind: object) -> list[bytes]:
        return {"frames": [JPEG], "document": [DOCUMENT], "end": [b"{}"]}.get(str(kind), [])

    def raw_header(self, header: bytes, kind: object) -> None:
        self.raw(header, *self.payload_for(kind))


def _somewhere(rng: random.Random, header: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A map in the header, perhaps an inner one, and one of its keys."""
    place = header
    while True:
        key = rng.choice(sorted(place))
        inner = place[key]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            inner = rng.choice(inner)
        if not isinstance(inner, dict) or not inner or rng.random() < 0.3:
            return place, key
        place = inner


def _seldom(rng: random.Random, large: T, small: T) -> T:
    """What is large takes most of the time."""
    return large if rng.random() < 0.02 else small


def _copy(header: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(header))
    return copied


def _changed(talk: Talk, value: Callable[[], Any]) -> None:
    header = _copy(talk.any_header())
    kind = header["type"]
    place, key = _somewhere(talk.rng, header)
    place[key] = value()
    talk.raw_header(msgpack.packb(header), kind)


def wrong_type(talk: Talk) -> None:
    _changed(talk, lambda: talk.rng.choice(ODDITIES))


def out_of_range(talk: Talk) -> None:
    _changed(talk, lambda: talk.rng.choice(NUMBERS))


def missing_field(talk: Talk) -> None:
    header = _copy(talk.any_header())
    kind = header["type"]
    place, key = _somewhere(talk.rng, header)
    del place[key]
    talk.raw_header(msgpack.packb(header), kind)


def extra_field(talk: Talk) -> None:
    header = _copy(talk.any_header())
    place, _ = _somewhere(talk.rng, header)
    place["extra" * talk.rng.randrange(1, 100)] = talk.rng.choice(ODDITIES)
    talk.raw_header(msgpack.packb(header), header["type"])


def duplicate_key(talk: Talk) -> None:
    header = talk.any_header()
    pairs = [*header.items(), *header.items(), ("session", talk.rng.getrandbits(62))]
    data = b"\xde" + struct.pack(">H", len(pairs)) + b"".join(msgpack.packb(k) + msgpack.packb(v) for k, v in pairs)
    talk.raw_header(data, header["type"])


def deep_nesting(talk: Talk) -> None:
    header = talk.any_header()
    depth = _seldom(talk.rng, 100_000, talk.rng.choice((10, 500, 2000)))
    deep = talk.rng.choice((b"\x91", b"\x81\xa1a")) * depth + b"\xc0"
    data = msgpack.packb(header)
    talk.raw_header(bytes([data[0] + 1]) + data[1:] + b"\xa1z" + deep, header["type"])


def huge_count(talk: Talk) -> None:
    """A count of 2^32 - 1 of which nothing follows."""
    header = talk.any_header()
    data = msgpack.packb(header)
    lie = talk.rng.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")) + b"\xff" * 4
    where = talk.rng.choice((b"", bytes([data[0] + 1]) + data[1:] + b"\xa1z", data[: talk.rng.randrange(len(data))]))
    talk.raw_header(where + lie, header["type"])


def not_utf8(talk: Talk) -> None:
    header = talk.any_header()
    data = msgpack.packb(header)
    data = data.replace(b"session", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9", talk.rng.randrange(2))
    talk.raw_header(data + b"\xa2\xff\xff", header["type"])


def truncated(talk: Talk) -> None:
    header = talk.any_header()
    data = msgpack.packb(header)
    talk.raw_header(data[: talk.rng.randrange(len(data))], header["type"])


def flipped(talk: Talk) -> None:
    header = talk.any_header()
    data = bytearray(msgpack.packb(header))
    for _ in range(talk.rng.randrange(1, 4)):
        data[talk.rng.randrange(len(data))] ^= 1 << talk.rng.randrange(8)
    talk.raw_header(bytes(data), header["type"])


def garbage(talk: Talk) -> None:
    talk.raw(*(talk.rng.randbytes(talk.rng.randrange(200)) for _ in range(talk.rng.randrange(1, 5))))


def empty_frames(talk: Talk) -> None:
    talk.raw(*[b""] * talk.rng.choice((1, 2, 3, 100)))


def many_parts(talk: Talk) -> None:
    index = talk.begin()
    parts = _seldom(talk.rng, 4096, talk.rng.choice((2, 30, 200)))
    header = talk.header("frames", index=index, first=0, count=min(parts, 4096), sizes=[1] * parts)
    talk.raw(msgpack.packb(header), *[talk.rng.choice((b"", b"x", JPEG[:50]))] * parts)


def oversized_header(talk: Talk) -> None:
    header = talk.any_header()
    size = _seldom(talk.rng, talk.rng.choice((2**16, 2**17, 2**20 + 1)), 2**12)
    talk.raw_header(msgpack.packb({**header, "fill": bytes(size)}), header["type"])


def wrong_seq(talk: Talk) -> None:
    talk.lease()
    talk.seq = talk.rng.choice((0, 1, 2, 4, 5, 1000, 2**62))
    talk.say("ping", state="out of order")


def guessed_session(talk: Talk) -> None:
    talk.hello()
    talk.session = talk.rng.choice((0, 1, talk.session + 1, talk.rng.getrandbits(62)))
    for kind, fields in (("ping", {}), ("bye", {}), ("abandon", {"index": talk.rng.randrange(50)})):
        talk.say(kind, **fields)


def replayed(talk: Talk) -> None:
    """What an honest producer once said, to the byte, from somebody else."""
    talk.messages += talk.replay[: talk.rng.randrange(1, len(talk.replay) + 1)]


def index_overflow(talk: Talk) -> None:
    talk.begin()
    index = talk.rng.choice(NUMBERS)
    kind = talk.rng.choice(("begin", "frames", "abandon", "end"))
    if kind == "frames":
        talk.frames(index)
    elif kind == "end":
        talk.end(index, 1)
    else:
        talk.say(kind, index=index)


def offset_overflow(talk: Talk) -> None:
    index = talk.begin()
    changes = {talk.rng.choice(("first", "count")): talk.rng.choice(NUMBERS)}
    talk.say("frames", JPEG, **{"index": index, "first": 0, "count": 1, "sizes": [len(JPEG)], **changes})


def lying_sizes(talk: Talk) -> None:
    """Sizes that are not those of the payload, or not as many as steps."""
    rng, whole = talk.rng, len(JPEG)
    sizes = rng.choice((
        [], [0], [whole - 1], [whole + 1], [whole, whole], [1] * whole, [whole, 0], [-1], [2**32 - 1], [2**32], [2**63],
        [rng.choice(NUMBERS) for _ in range(rng.randrange(1, 9))], [1] * 70_000 if rng.random() < 0.02 else [2] * 9,
    ))  # fmt: skip
    talk.say("frames", JPEG, index=talk.begin(), first=0, count=rng.choice((1, max(len(sizes), 1))), sizes=sizes)


def too_many_steps(talk: Talk) -> None:
    index = talk.begin()
    for step in range(STEPS + 1):
        talk.frames(index, step)


def end_lies(talk: Talk) -> None:
    index = talk.begin()
    talk.frames(index)
    key = talk.rng.choice(("steps", "outcome", "checksum", "documents"))
    lies: dict[str, Any] = {"documents": ["0" * 64], "checksum": talk.rng.choice((0, 2**64 - 1, 2**64 - 2))}
    talk.end(index, 1, changes={key: lies.get(key, talk.rng.choice((2, 3, *NUMBERS)))})


def wrong_payload(talk: Talk) -> None:
    index = talk.begin()
    parts = [talk.rng.choice((b"", b"x", JPEG, JPEG[:-1], bytes(999))) for _ in range(talk.rng.randrange(4))]
    kind = talk.rng.choice(("frames", "end", "document", "ping", "want", "bye"))
    frames = {"index": index, "first": 0, "count": 1, "sizes": [len(JPEG)]}
    fields = {"frames": frames, "document": {"sha256": SHA256}, "want": {"count": 1}}
    if kind == "end":
        talk.frames(index)
        talk.end(index, 1, [b"{}", *parts])
    else:
        talk.say(kind, *parts, **fields.get(kind, {}))


def bad_columns(talk: Talk) -> None:
    index = talk.begin()
    talk.frames(index)
    wrong = talk.rng.choice(((struct.pack("<2f", float("nan"), 0), b"\0"), (bytes(8), b"\2"), (bytes(8), b"\xff")))
    talk.end(index, 1, [b"{}", *wrong])


def bad_attributes(talk: Talk) -> None:
    index = talk.begin()
    depth = _seldom(talk.rng, 100_000, talk.rng.choice((100, 2000)))
    texts = (b'{"a":1', b'"' + bytes(999) + b'"', b"{}" * 9)
    wrong = (b"[]", b"nu", b'{"a":NaN}', b'{"a":' + b"[" * depth, b"\xff\xfe", *texts)
    talk.end(index, 0, [talk.rng.choice(wrong)], changes={"outcome": 3})


def wrong_document(talk: Talk) -> None:
    index = talk.begin()
    data = _seldom(talk.rng, bytes(300_000), talk.rng.choice((b"other", b"", DOCUMENT)))
    talk.say("document", data, sha256=SHA256)
    talk.end(index, 0, [b"{}"], {"outcome": 3, "documents": [hashlib.sha256(data).hexdigest(), SHA256]})


def jpeg_bomb(talk: Talk) -> None:
    rng = talk.rng
    index = talk.begin()
    sides = (0, 1, HEIGHT, WIDTH, 8192, 65535)
    frame = rng.choice((
        bomb(rng.choice(sides), rng.choice(sides), rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9))),
        bomb(HEIGHT, WIDTH, components=rng.choice((1, 3)), precision=rng.choice((8, 12, 16))),
        JPEG[: rng.randrange(1, len(JPEG))], JPEG + b"\0", b"\xff\xd8" + b"\xff\xe1\xff\xff" * rng.randrange(1, 2000),
        b"\xff" * rng.randrange(1, 20_000), b"\x89PNG\r\n\x1a\n" + bytes(50), rng.randbytes(300) + b"\xff\xd9",
    ))  # fmt: skip
    talk.say("frames", frame, index=index, first=0, count=1, sizes=[len(frame)])


def stream_name(talk: Talk) -> None:
    talk.hello(spec=talk.spec(name=talk.rng.choice(NAMES)))


def new_stream(talk: Talk) -> None:
    talk.hello(spec=talk.spec(name=f"made/up{talk.rng.randrange(20)}"))


def giant_spec(talk: Talk) -> None:
    rng = talk.rng
    changes = rng.choice((
        {"max_steps": rng.choice(NUMBERS)}, {"rate_hz": rng.choice((0, -1, float("nan"), float("inf"), 1e300))},
        {"columns": [{"name": f"c{n}", "dtype": "uint8"} for n in range(rng.choice((65, 5000)))]},
        {"columns": [{"name": "a", "dtype": "float64", "shape": [rng.choice((2**31, 2**62, 2**64 - 1))] * 4}]},
        {"columns": [{"name": rng.choice(("../a", "images", "a/" * 9, "")), "dtype": "uint8"}]},
        {"columns": [{"name": "a", "dtype": rng.choice(("O", "S9", "V8", "datetime64", ">f4", "U" * 99))}]},
        {"cameras": [{"name": "c", "height": rng.choice(NUMBERS), "width": rng.choice(NUMBERS)}]},
        {"cameras": [{"name": f"c{n}", "height": 1, "width": 1} for n in range(rng.choice((17, 999)))]},
        {"max_steps": 10**6, "columns": [{"name": f"c{n}", "dtype": "uint8", "shape": [4]} for n in range(64)]},
    ))  # fmt: skip
    talk.hello(spec=talk.spec(name=f"giant/{rng.randrange(4)}", **changes))


def greedy(talk: Talk) -> None:
    """Everything allowed, as much as possible."""
    rng = talk.rng
    start = rng.choice((0, 2**61, 2**62 - 1, talk.start))
    goal = {"start": start, "end": rng.choice((None, 0, start, 2**62 - 1)), "successes": rng.choice((None, 1, 2**63))}
    holding = [rng.choice((start, start + n, rng.getrandbits(61))) % 2**62 for n in range(rng.choice((10, 4096, 4097)))]
    talk.hello(goal=goal, holding=holding if rng.random() < 0.2 else holding[:10])
    for _ in range(rng.randrange(3)):
        talk.say("want", count=rng.choice((1, 16, 4096)) if rng.random() < 0.1 else 2)


def credit_exceeded(talk: Talk) -> None:
    index = talk.begin()
    size = _seldom(talk.rng, 3 << 20, 1000)
    talk.say("frames", *[bytes(size)] * talk.rng.randrange(1, 4), index=index, first=0, count=1, sizes=[size])


def from_sink(talk: Talk) -> None:
    talk.hello()
    fields = {"welcome": {"epoch": 1, "credit": 9}, "leased": {"indices": [1]}, "credit": {"bytes": 2**50}}
    kind = talk.rng.choice(("welcome", "leased", "credit", "committed", "refused", "done", "drain", "pong", "evil"))
    talk.say(kind, **fields.get(kind, {"index": 1, "code": "storage", "why": "x"}))


def other_version(talk: Talk) -> None:
    talk.hello(protocol=talk.rng.choice((0, 2, -1, 2**63, "1", None, [1])))


KINDS: tuple[Callable[[Talk], None], ...] = (
    wrong_type, out_of_range, missing_field, extra_field, duplicate_key, deep_nesting, huge_count, not_utf8, truncated,
    flipped, garbage, empty_frames, many_parts, oversized_header, wrong_seq, guessed_session, replayed, index_overflow,
    lying_sizes, offset_overflow, too_many_steps, end_lies, wrong_payload, bad_columns, bad_attributes, wrong_document,
    jpeg_bomb, stream_name, new_stream, giant_spec, greedy, credit_exceeded, from_sink, other_version,
)  # fmt: skip
