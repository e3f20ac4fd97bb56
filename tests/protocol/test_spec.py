"""The schema of a stream: every refusal, sizes, JSON and the words for a difference."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

from protocol.errors import SpecError
from protocol.spec import (
    DTYPES,
    MAX_ATTRIBUTE_BYTES,
    MAX_FRAME_BYTES,
    MAX_STEPS,
    MIN_WINDOW_BYTES,
    Camera,
    Column,
    StreamSpec,
    differences,
)
from tests.strategies import specs

STATE = Column("observations/state", "float32", (3,))
FRONT = Camera("front", 48, 64)
SPEC = StreamSpec("robosuite/PickPlaceCan", 20.0, 500, (STATE, Column("done", "bool")), (FRONT,))


def changed(**changes: Any) -> StreamSpec:
    return msgspec.structs.replace(SPEC, **changes)


def refused(why: str) -> Any:
    return pytest.raises(SpecError, match=re.escape(why))


@given(specs())
def test_what_the_strategy_makes_passes_and_survives_json(spec: StreamSpec) -> None:
    spec.check()
    assert StreamSpec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["max_steps"] == spec.max_steps


def test_equal_specs_give_equal_bytes() -> None:
    assert changed(rate_hz=20) == SPEC
    assert changed(rate_hz=20).to_json() == SPEC.to_json()


def test_sizes() -> None:
    assert SPEC.row_bytes == 13
    assert SPEC.raw_step_bytes == 13 + 48 * 64 * 3
    assert SPEC.max_end_bytes == 500 * 13 + MAX_ATTRIBUTE_BYTES
    assert SPEC.max_step_frames_bytes == MIN_WINDOW_BYTES
    assert SPEC.min_window_bytes == SPEC.max_end_bytes
    huge = changed(cameras=(Camera("front", 8192, 8192),))
    assert huge.max_step_frames_bytes == huge.min_window_bytes == MAX_FRAME_BYTES


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_as_large_as_numpy_says(dtype: str) -> None:
    column = Column("a", dtype, (2, 3))
    assert column.row_bytes == np.zeros((2, 3), dtype).nbytes
    assert column.numpy_dtype == np.dtype(dtype)
    assert column.numpy_dtype.byteorder in "<|" or np.dtype("<i4") == np.dtype("i4")


@pytest.mark.parametrize("name", ["a", "a/b/c/d", "namo/two_rooms", "A.b-c_9", "x" * 128])
def test_stream_names_that_are_allowed(name: str) -> None:
    changed(name=name).check()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/..",
        "a..b",
        ".a",
        "a/.b",
        "-a",
        "a b",
        "a\\b",
        "é",
        "a\n",
        "a/b/c/d/e",
        "x" * 129,
    ],
)
def test_stream_names_that_are_refused(name: str) -> None:
    with refused(f"stream name {name!r}: expected one to four parts"):
        changed(name=name).check()


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 1e6, float("nan"), float("inf")])
def test_rates_that_are_refused(rate_hz: float) -> None:
    with refused(f"rate_hz {rate_hz} must be above 0 and below 1e6"):
        changed(rate_hz=rate_hz).check()


@pytest.mark.parametrize("max_steps", [0, -1, MAX_STEPS + 1])
def test_lengths_that_are_refused(max_steps: int) -> None:
    with refused(f"max_steps {max_steps} must be from 1 to {MAX_STEPS}"):
        changed(max_steps=max_steps).check()


def test_too_many_columns_or_cameras() -> None:
    with refused("65 columns and 1 cameras; at most 64 and 16 are allowed"):
        changed(columns=tuple(Column(f"c{n}", "bool") for n in range(65))).check()
    with refused("2 columns and 17 cameras; at most 64 and 16 are allowed"):
        changed(cameras=tuple(Camera(f"c{n}", 1, 1) for n in range(17))).check()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ((STATE, STATE), "a column name occurs twice"),
        ((Column("images", "bool"),), "does not begin with 'images'"),
        ((Column("images/front", "bool"),), "does not begin with 'images'"),
        ((Column("", "bool"),), "a column name has one to four parts"),
        ((Column("a/b/c/d/e", "bool"),), "a column name has one to four parts"),
        ((Column("a/../b", "bool"),), "a column name has one to four parts"),
        ((Column("a/b", "bool"), Column("a", "bool")), "column 'a': it cannot be an array and the folder of 'a/b'"),
        ((Column("a", "float16"),), "dtype 'float16' is none of float32, float64"),
        ((Column("a", "object"),), "dtype 'object' is none of"),
        ((Column("a", "int8", (0,)),), "shape (0,) must have at most 4 sides, each at least 1"),
        ((Column("a", "int8", (-1, -1)),), "shape (-1, -1) must have at most 4 sides"),
        ((Column("a", "int8", (1,) * 5),), "must have at most 4 sides"),
        ((Column("a", "float64", (2000,)),), "16000 bytes a step × max_steps 500 is over 4194304 bytes"),
        ((Column("a", "float64", (2**62, 2**62)),), "is over 4194304 bytes; lower max_steps"),
    ],
)
def test_columns_that_are_refused(columns: tuple[Column, ...], why: str) -> None:
    with refused(why):
        changed(columns=columns).check()


@pytest.mark.parametrize(
    ("cameras", "why"),
    [
        ((FRONT, FRONT), "a camera name occurs twice in ['front', 'front']"),
        ((Camera("a/b", 1, 1),), "camera 'a/b': a camera name is letters"),
        ((Camera("", 1, 1),), "camera '': a camera name is letters"),
        ((Camera("a", 0, 1),), "0×1: each side must be 1 to 8192 pixels"),
        ((Camera("a", 1, 8193),), "1×8193: each side must be 1 to 8192 pixels"),
    ],
)
def test_cameras_that_are_refused(cameras: tuple[Camera, ...], why: str) -> None:
    with refused(why):
        changed(cameras=cameras).check()


def test_a_spec_that_no_attribute_could_hold() -> None:
    with refused("the spec takes more than 60000 bytes of JSON"):
        changed(columns=tuple(Column(f"{'n' * 1000}{n}", "bool") for n in range(60))).check()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"name": "a"}',
        b'{"name": "\xff", "rate_hz": 1, "max_steps": 1}',
        b'{"name": "a", "rate_hz": 1, "max_steps": 1, "more": 2}',
        b'{"name": "a", "rate_hz": "fast", "max_steps": 1}',
        b"[" * 100_000,
    ],
)
def test_json_that_is_no_spec(data: bytes) -> None:
    with refused("the stream spec is not valid JSON of a StreamSpec"):
        StreamSpec.from_json(data)


def test_json_of_a_spec_that_is_refused() -> None:
    with refused("max_steps 0 must be"):
        StreamSpec.from_json(changed(max_steps=0).to_json())


# --- differences -------------------------------------------------------------------------------------------------


@given(specs(), specs())
def test_there_are_words_for_every_difference(first: StreamSpec, second: StreamSpec) -> None:
    assert bool(differences(first, second)) == (first != second)
    assert differences(first, first) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (changed(name="other"), ["name: expected robosuite/PickPlaceCan, found other"]),
        (changed(rate_hz=10.0), ["rate_hz: expected 20.0, found 10.0"]),
        (changed(max_steps=1), ["max_steps: expected 500, found 1"]),
        (changed(cameras=()), ["camera 'front': missing"]),
        (changed(cameras=(Camera("front", 64, 48),)), ["camera 'front': expected 48×64, found 64×48"]),
        (changed(columns=(*SPEC.columns, Column("x", "int8"))), ["column 'x': not in the stream"]),
        (
            changed(columns=(Column("observations/state", "float32", (3,), True), SPEC.columns[1])),
            ["column 'observations/state': expected float32[3], found float32[3] (NaN allowed)"],
        ),
        (
            changed(columns=SPEC.columns[::-1]),
            ["columns: expected the order ['observations/state', 'done'], found ['done', 'observations/state']"],
        ),
    ],
)
def test_the_words(found: StreamSpec, words: list[str]) -> None:
    assert differences(SPEC, found) == words
