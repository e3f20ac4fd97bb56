"""What a rollout asks a policy server, and what it hears: one MessagePack map each, DEALER to ROUTER.

An observation goes out, a chunk of actions comes back. Every question has a number that its connection never uses
again, and the answer carries it. Numbers travel as the bytes of little-endian float32.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from protocol.errors import HeadraceError

POLICY_PROTOCOL = 1
# Bounds of what is read into memory at all; a socket drops what is longer.
MAX_QUESTION_BYTES = 16 << 20
MAX_ANSWER_BYTES = 4 << 20
MAX_COLUMNS, MAX_COLUMN_BYTES = 64, 64 << 10
MAX_CAMERAS, MAX_FRAME_BYTES = 16, 4 << 20
MAX_CHUNK, MAX_ACTION = 8192, 4096

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=2000)]


class PolicyProtocolError(HeadraceError):
    """A message of the policy protocol that cannot be what it says it is."""


class _Message(msgspec.Struct, frozen=True, tag_field="type", kw_only=True, forbid_unknown_fields=True):
    id: Number


class AskInfo(_Message, tag="ask_info", frozen=True, kw_only=True):
    """What does this policy need?"""


class Observation(_Message, tag="observation", frozen=True, kw_only=True):
    """What is seen now. columns: name → float32 of one row. frames: camera → JPEG."""

    columns: Annotated[dict[Name, Annotated[bytes, Meta(max_length=MAX_COLUMN_BYTES)]], Meta(max_length=MAX_COLUMNS)]
    frames: Annotated[dict[Name, Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]], Meta(max_length=MAX_CAMERAS)]


class PolicyInfo(_Message, tag="info", frozen=True, kw_only=True):
    """The policy. columns: name → numbers of one row. cameras: name → height, width of the JPEGs [pixels].

    chunk, action: shape of an answer. rate_hz: actions a second. jpeg_quality: of the frames that it was trained on.
    name: of the checkpoint. device: in words.
    """

    protocol: int
    name: Text
    device: Text
    columns: Annotated[dict[Name, Annotated[int, Meta(ge=1, le=MAX_COLUMN_BYTES // 4)]], Meta(max_length=MAX_COLUMNS)]
    cameras: Annotated[dict[Name, tuple[Number, Number]], Meta(max_length=MAX_CAMERAS)]
    chunk: Annotated[int, Meta(ge=1, le=MAX_CHUNK)]
    action: Annotated[int, Meta(ge=1, le=MAX_ACTION)]
    rate_hz: Annotated[float, Meta(gt=0)]
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)]


class Chunk(_Message, tag="chunk", frozen=True, kw_only=True):
    """The next actions: float32[chunk, action]."""

    actions: Annotated[bytes, Meta(max_length=MAX_ANSWER_BYTES)]


class Failed(_Message, tag="failed", frozen=True, kw_only=True):
    """No answer, and why."""

    why: Text


FromRollout = AskInfo | Observation
FromPolicy = PolicyInfo | Chunk | Failed

_encoder = msgspec.msgpack.Encoder()
_from_rollout = msgspec.msgpack.Decoder(FromRollout)
_from_policy = msgspec.msgpack.Decoder(FromPolicy)


def encode(message: FromRollout | FromPolicy) -> bytes:
    """As it goes over the wire."""
    return _encoder.encode(message)


def decode_from_rollout(data: bytes) -> FromRollout:
    """Raises PolicyProtocolError."""
    if len(data) > MAX_QUESTION_BYTES:
        raise PolicyProtocolError(f"a question has at most {MAX_QUESTION_BYTES} bytes, found {len(data)}")
    try:
        question: FromRollout = _from_rollout.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PolicyProtocolError(f"not a question for a policy: {error}") from error
    return question


def decode_from_policy(data: bytes) -> FromPolicy:
    """Raises PolicyProtocolError."""
    if len(data) > MAX_ANSWER_BYTES:
        raise PolicyProtocolError(f"an answer has at most {MAX_ANSWER_BYTES} bytes, found {len(data)}")
    try:
        answer: FromPolicy = _from_policy.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PolicyProtocolError(f"not a policy's answer: {error}") from error
    return answer


def pack(numbers: NDArray[np.float32]) -> bytes:
    """Numbers of any shape, row by row."""
    return np.ascontiguousarray(numbers, "<f4").tobytes()


def state_of(info: PolicyInfo, observation: Observation) -> NDArray[np.float32]:
    """The columns in the policy's order, float32[S]. Raises PolicyProtocolError if they are not those it needs."""
    if observation.columns.keys() != info.columns.keys() or observation.frames.keys() != info.cameras.keys():
        raise PolicyProtocolError(
            f"expected columns {', '.join(info.columns)} and cameras {', '.join(info.cameras) or 'none'}, found "
            f"{', '.join(observation.columns)} and {', '.join(observation.frames) or 'none'}"
        )
    parts = [_numbers(f"column {name!r}", observation.columns[name], (size,)) for name, size in info.columns.items()]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def actions_of(info: PolicyInfo, chunk: Chunk) -> NDArray[np.float32]:
    """float32[chunk, action]. Raises PolicyProtocolError unless all are there and finite."""
    return _numbers("actions", chunk.actions, (info.chunk, info.action))


def _numbers(what: str, data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    expected = 4 * int(np.prod(shape))
    if len(data) != expected:
        raise PolicyProtocolError(f"{what}: expected {expected} bytes, float32{list(shape)}, found {len(data)}")
    numbers = np.frombuffer(data, "<f4").reshape(shape)
    if not np.isfinite(numbers).all():
        raise PolicyProtocolError(f"{what}: expected finite numbers, found NaN or infinity")
    return numbers.astype(np.float32)
