"""The messages on the wire, read and written by `msgpack`, which knows nothing of our structs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from enum import IntEnum
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolError
from protocol.messages import (
    MAX_HEADER_BYTES,
    MAX_HOLDING,
    PROTOCOL_VERSION,
    Begin,
    End,
    FromProducer,
    FromSink,
    Goal,
    Hello,
    Leased,
    Outcome,
    Producer,
    RefusalCode,
    Refused,
    Welcome,
    decode_envelope,
    decode_from_producer,
    decode_from_sink,
    encode,
)
from protocol.spec import StreamSpec
from tests.strategies import specs

FROM_PRODUCER: tuple[type[Any], ...] = get_args(FromProducer)
FROM_SINK: tuple[type[Any], ...] = get_args(FromSink)

sessions = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**32 - 1)
indices = st.integers(0, 2**62 - 1)
index_lists = st.lists(indices, max_size=5).map(tuple)
times = st.integers(0, 2**63 - 1)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
positive_floats = st.floats(0.01, 1e6)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "session": sessions,
    "seq": counts,
    "protocol": st.integers(0, 100),
    "producer": st.builds(
        Producer, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64), texts, counts
    ),
    "spec": specs(),
    "goal": st.builds(Goal, indices, st.none() | indices, st.none() | st.integers(1, 2**62)),
    "holding": index_lists,
    "index": indices,
    "indices": index_lists,
    "leased": index_lists,
    "pending": index_lists,
    "committed": index_lists,
    "lost": index_lists,
    "first": counts,
    "sizes": st.lists(counts, max_size=9).map(tuple),
    "steps": counts,
    "epoch": sessions,
    "credit": counts,
    "bytes": st.integers(1, 2**40),
    "outcome": st.sampled_from(Outcome),
    "seed": times,
    "began_ns": times,
    "ended_ns": times,
    "checksum": st.integers(0, 2**64 - 1),
    "documents": st.lists(digests, max_size=3).map(tuple),
    "sha256": digests,
    "state": texts,
    "why": texts,
    "code": st.sampled_from(get_args(RefusalCode)),
    "heartbeat_s": positive_floats,
    "lease_s": positive_floats,
    "count": st.integers(1, 4096),
}


def any_of(kinds: tuple[type[Any], ...]) -> st.SearchStrategy[Any]:
    def build(kind: type[Any]) -> st.SearchStrategy[Any]:
        names = [field.name for field in msgspec.structs.fields(kind)]
        special = {"index": st.none() | indices} if kind is Refused else {}
        return st.builds(kind, **{name: special.get(name, FIELDS[name]) for name in names})

    return st.sampled_from(kinds).flatmap(build)


def plain(value: Any) -> Any:
    """What a stranger's MessagePack library gives for a message."""
    if isinstance(value, msgspec.Struct):
        tag = {"type": value.__struct_config__.tag} if value.__struct_config__.tag else {}
        return {**tag, **{name: plain(getattr(value, name)) for name in value.__struct_fields__}}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, IntEnum) else value


@given(any_of(FROM_PRODUCER))
def test_what_a_producer_says_is_plain_messagepack_both_ways(message: FromProducer) -> None:
    assert msgpack.unpackb(encode(message)) == plain(message)
    assert decode_from_producer(encode(message)) == message
    assert decode_from_producer(memoryview(msgpack.packb(plain(message)))) == message


@given(any_of(FROM_SINK))
def test_what_the_sink_says_is_plain_messagepack_both_ways(message: FromSink) -> None:
    assert msgpack.unpackb(encode(message)) == plain(message)
    assert decode_from_sink(encode(message)) == message
    assert decode_from_sink(memoryview(msgpack.packb(plain(message)))) == message


def test_every_message_has_a_tag_of_its_own_and_is_frozen() -> None:
    kinds = FROM_PRODUCER + FROM_SINK
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags) == 18
    assert all(kind.__struct_config__.frozen for kind in kinds)
    assert tags == [kind.__name__.lower() for kind in kinds]


def test_a_message_in_the_wrong_direction_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Invalid value 'begin'"):
        decode_from_sink(encode(Begin(session=1, index=1)))
    with pytest.raises(ProtocolError, match="Invalid value 'leased'"):
        decode_from_producer(encode(Leased(session=1, indices=())))


def test_fields_of_a_later_version_are_ignored() -> None:
    later = msgpack.packb({"type": "begin", "session": 1, "seq": 2, "index": 3, "mood": ["good", {"very": 1}]})
    assert decode_from_producer(later) == Begin(session=1, seq=2, index=3)


HELLO = plain(
    Hello(
        session=1,
        protocol=PROTOCOL_VERSION,
        producer=Producer("p"),
        spec=StreamSpec("a", 1.0, 1),
        goal=Goal(),
        holding=(1,),
    )
)
END = plain(
    End(session=1, index=1, outcome=Outcome.VOID, steps=0, seed=0, began_ns=0, ended_ns=0, checksum=0, documents=())
)


@pytest.mark.parametrize(
    ("message", "changes", "why"),
    [
        (HELLO, {"session": -1}, "$.session"),
        (HELLO, {"session": 2**63}, "$.session"),
        (HELLO, {"session": True}, "$.session"),
        (HELLO, {"session": 1.5}, "$.session"),
        (HELLO, {"session": None}, "$.session"),
        (HELLO, {"seq": 2**63}, "$.seq"),
        (HELLO, {"holding": [-1]}, "$.holding"),
        (HELLO, {"holding": [2**62]}, "$.holding"),
        (HELLO, {"holding": [0] * (MAX_HOLDING + 1)}, "$.holding"),
        (HELLO, {"holding": "1"}, "$.holding"),
        (HELLO, {"goal": {"successes": 0}}, "$.goal.successes"),
        (HELLO, {"goal": {"episodes": 3}}, "$.goal"),
        (HELLO, {"producer": {"name": ""}}, "$.producer.name"),
        (HELLO, {"producer": {"name": "p" * 65}}, "$.producer.name"),
        (HELLO, {"spec": {"name": "a", "rate_hz": 1.0, "max_steps": 1, "colour": 1}}, "$.spec"),
        (HELLO, {"spec": {"name": "a", "rate_hz": 1.0}}, "$.spec"),
        (HELLO, {"spec": {"name": "a", "rate_hz": 1.0, "max_steps": 1, "columns": [1]}}, "$.spec.columns"),
        (HELLO, {"type": "helo"}, "Invalid value 'helo'"),
        (HELLO, {"type": 3}, "$.type"),
        (END, {"outcome": 0}, "Invalid enum value 0"),
        (END, {"outcome": "SUCCESS"}, "$.outcome"),
        (END, {"checksum": "abc"}, "$.checksum"),
        (END, {"documents": ["ab"]}, "$.documents"),
        (END, {"documents": ["A" * 64]}, "$.documents"),
        (END, {"documents": ["a" * 64] * 17}, "$.documents"),
        (END, {"began_ns": 2**63}, "$.began_ns"),
        (END, {"index": b"1"}, "$.index"),
    ],
)
def test_a_field_that_does_not_fit_is_named(message: dict[str, Any], changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_producer(msgpack.packb({**message, **changes}))
    assert why in str(caught.value)


@pytest.mark.parametrize("field", [name for name in HELLO if name not in ("seq", "holding")])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(ProtocolError, match=f"missing required field `{field}`"):
        decode_from_producer(msgpack.packb({name: value for name, value in HELLO.items() if name != field}))


@pytest.mark.parametrize("decode", [decode_from_producer, decode_from_sink])
@given(data=st.binary(max_size=200))
def test_any_bytes_at_all_raise_protocol_error_only(decode: Any, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)
    assert decode_envelope(data) is None


@given(any_of(FROM_PRODUCER + FROM_SINK), st.data())
def test_damaged_messages_raise_protocol_error_only(message: Any, data: st.DataObject) -> None:
    header = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    header = header[: data.draw(st.integers(0, len(header)))]
    for decode in (decode_from_producer, decode_from_sink):
        try:
            found = decode(bytes(header))
        except ProtocolError:
            continue
        assert isinstance(found, FROM_PRODUCER + FROM_SINK)
    decode_envelope(bytes(header))


def with_tail(start: dict[str, Any], name: str, tail: bytes) -> bytes:
    """A map whose last value is given as it is on the wire."""
    packed = b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in start.items())
    return bytes([0x80 | (len(start) + 1)]) + packed + msgpack.packb(name) + tail


BOMBS = {
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xff",
    "extension of 4 GB": b"\xc9\xff\xff\xff\xff\x01",
    "100000 arrays in each other": b"\x91" * 100_000,
    "100000 maps in each other": b"\x81\x00" * 100_000,
    "text that is no UTF-8": b"\xa2\xff\xfe",
    "time out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "reserved byte": b"\xc1",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("name", ["protocol", "producer", "holding", "spec", "goal", "session"])
def test_bombs_raise_protocol_error_only(name: str, bomb: bytes) -> None:
    header = with_tail({key: value for key, value in HELLO.items() if key != name}, name, bomb)
    with pytest.raises(ProtocolError):
        decode_from_producer(header)
    found = decode_envelope(header)
    assert found is None or found[0] == 1


@pytest.mark.parametrize("bomb", [name for name in BOMBS if name not in ("text that is no UTF-8", "time out of range")])
def test_bombs_in_an_unknown_field_raise_protocol_error_only(bomb: str) -> None:
    # The two others are skipped unread, like any field of a later version.
    with pytest.raises(ProtocolError):
        decode_from_producer(with_tail(HELLO, "unknown", BOMBS[bomb]))


def test_no_bomb_makes_the_decoder_allocate() -> None:
    """All bombs again, where 64 MB more than what Python itself needs is all there is."""
    script = """
        import pathlib, resource, sys
        from protocol.errors import ProtocolError
        from protocol.messages import decode_envelope, decode_from_producer
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
        for line in sys.stdin:
            header = bytes.fromhex(line)
            try:
                decode_from_producer(header)
            except ProtocolError:
                pass
            decode_envelope(header)
        print("calm")
    """
    headers = [
        with_tail({key: value for key, value in HELLO.items() if key != name}, name, bomb).hex()
        for name in ("protocol", "holding", "unknown")
        for bomb in BOMBS.values()
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], input="\n".join(headers), capture_output=True, text=True
    )
    assert done.stdout == "calm\n", done.stderr


def test_a_header_over_the_limit_is_not_even_looked_at() -> None:
    with pytest.raises(ProtocolError, match=f"at most {MAX_HEADER_BYTES} bytes, found {MAX_HEADER_BYTES + 1}"):
        decode_from_producer(bytes(MAX_HEADER_BYTES + 1))


def test_the_largest_messages_stay_below_the_limit() -> None:
    full = (2**62 - 1,) * MAX_HOLDING
    welcome = Welcome(
        session=1, epoch=1, credit=1, heartbeat_s=1, lease_s=1, leased=full, pending=full, committed=full, lost=full
    )
    assert len(encode(welcome)) < MAX_HEADER_BYTES
    assert decode_from_sink(encode(welcome)) == welcome


# --- the envelope: enough to answer a stranger ----------------------------------------------------------------------


def test_the_envelope_of_another_version() -> None:
    stranger = {"type": "hello", "session": 5, "protocol": 99, "producer": 7, "greeting": {"warm": True}}
    with pytest.raises(ProtocolError):
        decode_from_producer(msgpack.packb(stranger))
    assert decode_envelope(msgpack.packb(stranger)) == (5, 99)


def test_the_envelope_of_a_message_that_is_no_hello() -> None:
    assert decode_envelope(encode(Begin(session=5, index=1))) == (5, None)
    assert decode_envelope(msgpack.packb({"type": "begin", "session": 5, "protocol": "two"})) == (5, None)


@pytest.mark.parametrize("header", [{}, {"session": 1}, {"type": "hello"}, {"type": "hello", "session": -1}, 3, [1]])
def test_no_envelope(header: Any) -> None:
    assert decode_envelope(msgpack.packb(header)) is None
