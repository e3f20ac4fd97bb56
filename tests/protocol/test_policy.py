"""The policy protocol: what it takes, and what it refuses before it reserves memory for it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from protocol.policy import (
    MAX_ANSWER_BYTES,
    MAX_COLUMN_BYTES,
    MAX_FRAME_BYTES,
    MAX_QUESTION_BYTES,
    AskInfo,
    Chunk,
    Failed,
    FromPolicy,
    FromRollout,
    Observation,
    PolicyInfo,
    PolicyProtocolError,
    actions_of,
    decode_from_policy,
    decode_from_rollout,
    encode,
    pack,
    state_of,
)

INFO = PolicyInfo(
    id=7,
    protocol=1,
    name="step-1",
    device="cpu",
    columns={"b": 2, "a": 1},
    cameras={},
    chunk=3,
    action=2,
    rate_hz=50.0,
    jpeg_quality=90,
)
SEEN = Observation(id=1, columns={"a": pack(np.array([3.0])), "b": pack(np.array([1.0, 2.0]))}, frames={})


@pytest.mark.parametrize("message", [AskInfo(id=0), SEEN, Observation(id=2, columns={}, frames={"c": b"\xff\xd8"})])
def test_questions_round_trip(message: FromRollout) -> None:
    assert decode_from_rollout(encode(message)) == message


@pytest.mark.parametrize("message", [INFO, Chunk(id=1, actions=b"1234"), Failed(id=1, why="no")])
def test_answers_round_trip(message: FromPolicy) -> None:
    assert decode_from_policy(encode(message)) == message


def test_the_state_is_in_the_policys_order() -> None:
    np.testing.assert_array_equal(state_of(INFO, SEEN), np.array([1, 2, 3], np.float32))


def test_actions() -> None:
    actions = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(actions_of(INFO, Chunk(id=1, actions=pack(actions))), actions)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"a": SEEN.columns["a"]}, "expected columns b, a and cameras none, found a and none"),
        ({**SEEN.columns, "c": b""}, "found a, b, c"),
        ({**SEEN.columns, "b": b"1234"}, r"column 'b': expected 8 bytes, float32\[2\], found 4"),
        ({**SEEN.columns, "a": pack(np.array([np.nan]))}, "column 'a': expected finite numbers"),
    ],
)
def test_an_observation_that_does_not_fit(columns: dict[str, bytes], why: str) -> None:
    with pytest.raises(PolicyProtocolError, match=why):
        state_of(INFO, Observation(id=1, columns=columns, frames={}))


def test_actions_that_do_not_fit() -> None:
    with pytest.raises(PolicyProtocolError, match=r"expected 24 bytes, float32\[3, 2\], found 20"):
        actions_of(INFO, Chunk(id=1, actions=bytes(20)))
    with pytest.raises(PolicyProtocolError, match="expected finite numbers"):
        actions_of(INFO, Chunk(id=1, actions=pack(np.full((3, 2), np.inf))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"type": "observation", "id": -1, "columns": {}, "frames": {}}),
        msgspec.msgpack.encode({"type": "observation", "id": 1, "columns": {}}),
        msgspec.msgpack.encode({"type": "observation", "id": 1, "columns": {}, "frames": {}, "more": 1}),
        msgspec.msgpack.encode({"type": "chunk", "id": 1, "actions": b""}),
        encode(Observation(id=1, columns={"a": bytes(MAX_COLUMN_BYTES + 1)}, frames={})),
        encode(Observation(id=1, columns={}, frames={"c": bytes(MAX_FRAME_BYTES + 1)})),
        encode(Observation(id=1, columns={str(n): b"" for n in range(65)}, frames={})),
        encode(Observation(id=1, columns={}, frames={str(n): b"" for n in range(17)})),
        bytes(MAX_QUESTION_BYTES + 1),
        # A string that says it is 4 GiB long.
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa4type" * 1000,
    ],
)
def test_questions_that_are_refused(data: bytes) -> None:
    with pytest.raises(PolicyProtocolError):
        decode_from_rollout(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(AskInfo(id=1)),
        bytes(MAX_ANSWER_BYTES + 1),
        encode(msgspec.structs.replace(INFO, chunk=0)),
        encode(msgspec.structs.replace(INFO, chunk=10**9)),
        encode(msgspec.structs.replace(INFO, rate_hz=0.0)),
    ],
)
def test_answers_that_are_refused(data: bytes) -> None:
    with pytest.raises(PolicyProtocolError):
        decode_from_policy(data)
