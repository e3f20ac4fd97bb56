"""The messages between producer and sink, one union per direction. SPEC.md section 2 is the normative text.

A message is a ZeroMQ multipart: frame 0 is one of these structs in MessagePack, tagged by the field `type`; payload
frames follow untouched. Every message names its session and its place in it (`seq`, counted from 0 in each direction),
so that both sides notice a message that a broken connection swallowed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from protocol.errors import ProtocolError
from protocol.spec import StreamSpec

PROTOCOL_VERSION = 1
# Frame 0 of the largest message (a Hello with a full spec, a Welcome with many indices) stays below this.
MAX_HEADER_BYTES = 1 << 20
MAX_HOLDING = 4096
MAX_TEXT = 4096
MAX_FRAMES = 65_536

Count = Annotated[int, Meta(ge=0, lt=2**32)]
Index = Annotated[int, Meta(ge=0, lt=2**62)]
Bytes = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Session = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Indices = Annotated[tuple[Index, ...], Meta(max_length=MAX_HOLDING)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

RefusalCode = Literal[
    "protocol_version",  # the two sides speak different versions
    "wrong_spec",  # the stream exists with another schema
    "unknown_stream",  # this sink takes only the streams it was told to
    "unknown_session",  # the sink does not know this session, or a message of it was lost: say Hello again
    "too_many_producers",  # the sink's memory bound leaves no window for one more
    "credit_exceeded",  # more bytes were sent than the credit allowed
    "not_leased",  # the index is not leased to this session
    "bad_message",  # the message does not fit the protocol or the spec
    "bad_frame",  # a frame is no JPEG, or has another size than its camera
    "bad_columns",  # a column has the wrong size, or NaN where the spec forbids it
    "bad_checksum",  # the episode that arrived is not the one that was sent
    "storage",  # the sink cannot create the stream on its disk
]


class Outcome(IntEnum):
    """How an index ended.

    SUCCESS and FAILURE are episodes with steps; VOID is a failure of which only this record is kept.
    """

    SUCCESS = 1
    FAILURE = 2
    VOID = 3


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this producer works for: indices in [start, end), until `successes` of them have succeeded.

    end None: no upper bound. successes None: every index of the range once.
    """

    start: Index = 0
    end: Index | None = None
    successes: Annotated[int, Meta(ge=1)] | None = None


class Producer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who speaks: a name for people (unique names make logs readable, nothing depends on it), its host and process."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    host: Annotated[str, Meta(max_length=255)] = ""
    pid: Annotated[int, Meta(ge=0)] = 0


class _Message(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    session: Session
    seq: Sequence = 0


# --- producer → sink ---------------------------------------------------------------------------------------------


class Hello(_Message, tag="hello", frozen=True, kw_only=True):
    """Opens a session (seq 0). `holding`: indices leased under an earlier session that this producer still has."""

    protocol: int
    producer: Producer
    spec: StreamSpec
    goal: Goal
    holding: Indices = ()


class Want(_Message, tag="want", frozen=True, kw_only=True):
    """Asks for `count` more leases."""

    count: Annotated[int, Meta(ge=1, le=MAX_HOLDING)]


class Begin(_Message, tag="begin", frozen=True, kw_only=True):
    """Begins, or begins again, the episode of a leased index; what came before for this index is forgotten."""

    index: Index


class Frames(_Message, tag="frames", frozen=True, kw_only=True):
    """JPEG frames of steps [first, first + count), step by step in camera order.

    Payload: one frame, all JPEGs back to back. sizes: bytes of each, count × cameras.
    """

    index: Index
    first: Count
    count: Annotated[int, Meta(ge=1, le=4096)]
    sizes: Annotated[tuple[Count, ...], Meta(max_length=MAX_FRAMES)]


class Document(_Message, tag="document", frozen=True, kw_only=True):
    """A text that many episodes share, e.g. the model XML. Payload: one frame, whose SHA-256 is given."""

    sha256: Sha256


class End(_Message, tag="end", frozen=True, kw_only=True):
    """Ends the episode of an index. Payload: the attributes as JSON, then (unless VOID) one frame per column.

    steps: T; 0 for VOID. seed: what the simulator was seeded with. began_ns, ended_ns: producer's clock, Unix time.
    checksum: see `protocol.checksum.episode_checksum`. documents: SHA-256 of each Document that the episode refers to.
    """

    index: Index
    outcome: Outcome
    steps: Count
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    began_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    ended_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    checksum: int
    documents: Annotated[tuple[Sha256, ...], Meta(max_length=16)] = ()


class Abandon(_Message, tag="abandon", frozen=True, kw_only=True):
    """Gives a leased index back unfinished."""

    index: Index


class Ping(_Message, tag="ping", frozen=True, kw_only=True):
    """Says that the producer is alive, and for people what it is doing; answered by Pong."""

    state: Annotated[str, Meta(max_length=120)] = ""


class Bye(_Message, tag="bye", frozen=True, kw_only=True):
    """Ends the session; its leases go back to the pool."""


# --- sink → producer ---------------------------------------------------------------------------------------------


class Welcome(_Message, tag="welcome", frozen=True, kw_only=True):
    """Answers Hello (seq 0).

    epoch: one life of the sink; a new number means it was restarted. credit: payload bytes that may be sent now.
    Each index of `holding` comes back in one of: `leased` (send it from Begin), `pending` (already whole at the sink:
    wait for Committed), `committed`, `lost` (another producer has it: drop it).
    heartbeat_s: say something at least this often. lease_s: silence after which the leases are given to others.
    """

    epoch: Session
    credit: Bytes
    leased: Indices = ()
    pending: Indices = ()
    committed: Indices = ()
    lost: Indices = ()
    heartbeat_s: float
    lease_s: float


class Leased(_Message, tag="leased", frozen=True, kw_only=True):
    """Grants indices."""

    indices: Indices


class Credit(_Message, tag="credit", frozen=True, kw_only=True):
    """Allows `bytes` more payload bytes."""

    bytes: Annotated[int, Meta(ge=1, le=2**53 - 1)]


class Committed(_Message, tag="committed", frozen=True, kw_only=True):
    """The index is durable: data and row were synced to disk before this was sent."""

    index: Index


class Refused(_Message, tag="refused", frozen=True, kw_only=True):
    """What was asked is not possible. With an index: that lease is over. Without: the session is over."""

    code: RefusalCode
    why: Text
    index: Index | None = None


class Notice(_Message, tag="notice", frozen=True, kw_only=True):
    """Why the producer has to wait, for people, e.g. a full disk; empty when the reason is gone."""

    why: Text


class Done(_Message, tag="done", frozen=True, kw_only=True):
    """The producer's goal is met and committed; there will be no more leases."""


class Drain(_Message, tag="drain", frozen=True, kw_only=True):
    """The sink is about to stop. Keep what is not committed, and say Hello until it is back."""


class Pong(_Message, tag="pong", frozen=True, kw_only=True):
    """Answers Ping."""


FromProducer = Hello | Want | Begin | Frames | Document | End | Abandon | Ping | Bye
FromSink = Welcome | Leased | Credit | Committed | Refused | Notice | Done | Drain | Pong

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
_from_producer: msgspec.msgpack.Decoder[FromProducer] = msgspec.msgpack.Decoder(FromProducer)
_from_sink: msgspec.msgpack.Decoder[FromSink] = msgspec.msgpack.Decoder(FromSink)


class _Envelope(msgspec.Struct, tag_field=None):
    """The fields that every version of the protocol keeps, so that a stranger can be answered."""

    session: Session
    type: str
    protocol: Any = None


_envelope: msgspec.msgpack.Decoder[_Envelope] = msgspec.msgpack.Decoder(_Envelope)


def encode(message: FromProducer | FromSink) -> bytes:
    """Frame 0 of a message."""
    return _encoder.encode(message)


def decode_from_producer(header: bytes | memoryview) -> FromProducer:
    """Decode frame 0 at the sink. Raises ProtocolError; never allocates more than the header is long."""
    return _decode(_from_producer, header)


def decode_from_sink(header: bytes | memoryview) -> FromSink:
    """Decode frame 0 at the producer. Raises ProtocolError."""
    return _decode(_from_sink, header)


def decode_envelope(header: bytes | memoryview) -> tuple[int, int | None] | None:
    """(session, protocol version of a Hello) of a message that did not decode, or None if it has not even that."""
    try:
        envelope = _envelope.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return envelope.session, envelope.protocol if isinstance(envelope.protocol, int) else None


def _decode(decoder: msgspec.msgpack.Decoder[M], header: bytes | memoryview) -> M:
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"expected a header of at most {MAX_HEADER_BYTES} bytes, found {len(header)}")
    try:
        return decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the header does not fit the protocol, version {PROTOCOL_VERSION}: {error}") from error
