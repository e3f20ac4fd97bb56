"""Number and sizes of the payload frames of a message."""

from __future__ import annotations

import re
from typing import Any

import pytest

from protocol.errors import EpisodeError
from protocol.messages import End, Frames, Outcome
from protocol.payload import check_end, check_frames
from protocol.spec import MAX_ATTRIBUTE_BYTES, Camera, Column, StreamSpec

COLUMNS = (Column("state", "float32", (3,)), Column("done", "bool"))
CAMERAS = (Camera("front", 8, 8), Camera("wrist", 8, 8))
SPEC = StreamSpec("sim/Task", 20.0, 5, COLUMNS, CAMERAS)
BLIND = StreamSpec("sim/Blind", 20.0, 5, COLUMNS)
BARE = StreamSpec("sim/Bare", 20.0, 5)


def frames(sizes: tuple[int, ...] = (10, 10), first: int = 0, count: int = 1) -> Frames:
    return Frames(session=1, index=9, first=first, count=count, sizes=sizes)


def end(steps: int, outcome: Outcome = Outcome.SUCCESS) -> End:
    return End(session=1, index=9, outcome=outcome, steps=steps, seed=0, began_ns=0, ended_ns=0, checksum=0)


def refused(why: str) -> Any:
    return pytest.raises(EpisodeError, match=re.escape(why))


def test_frames_that_fit() -> None:
    check_frames(SPEC, frames(), (20,), steps=0)
    check_frames(SPEC, frames((10, 1, 1, 10), first=3, count=2), (22,), steps=3)


@pytest.mark.parametrize(
    ("spec", "message", "sizes", "steps", "why"),
    [
        (BLIND, frames((10,)), (10,), 0, "stream 'sim/Blind', index 9: the stream has no cameras, but frames came"),
        (SPEC, frames(first=1), (20,), 0, "stream 'sim/Task', index 9: expected frames from step 0, found step 1"),
        (SPEC, frames(first=0), (20,), 1, "expected frames from step 1, found step 0"),
        (SPEC, frames((1,) * 4, first=4, count=2), (4,), 4, "the episode is longer than max_steps 5"),
        (SPEC, frames((1,) * 3, count=2), (3,), 0, "expected 2 steps of 2 cameras = 4 frames, found 3"),
        (SPEC, frames(()), (), 0, "expected 1 steps of 2 cameras = 2 frames, found 0"),
        (SPEC, frames((10, 0)), (10,), 0, "frame 1 of the message is empty"),
        (SPEC, frames(), (), 0, "expected one payload frame of 20 bytes of JPEG, found ()"),
        (SPEC, frames(), (19,), 0, "expected one payload frame of 20 bytes of JPEG, found (19,)"),
        (SPEC, frames(), (10, 10), 0, "expected one payload frame of 20 bytes of JPEG, found (10, 10)"),
    ],
)
def test_frames_that_do_not_fit(
    spec: StreamSpec, message: Frames, sizes: tuple[int, ...], steps: int, why: str
) -> None:
    with refused(why):
        check_frames(spec, message, sizes, steps)


def test_ends_that_fit() -> None:
    check_end(SPEC, end(3), (2, 36, 3), steps=3)
    check_end(SPEC, end(5, Outcome.FAILURE), (MAX_ATTRIBUTE_BYTES, 60, 5), steps=5)
    check_end(SPEC, end(0, Outcome.VOID), (2,), steps=0)
    check_end(BLIND, end(3), (2, 36, 3), steps=0)
    check_end(BARE, end(1), (2,), steps=0)


@pytest.mark.parametrize(
    ("spec", "message", "sizes", "steps", "why"),
    [
        (SPEC, end(1, Outcome.VOID), (2,), 0, "stream 'sim/Task', index 9: a VOID record has no steps, found 1"),
        (SPEC, end(0, Outcome.VOID), (2,), 2, "a VOID record has no steps, found 2"),
        (SPEC, end(0, Outcome.VOID), (2, 0, 0), 0, "expected the attributes and 0 columns as payload, found 3 frames"),
        (SPEC, end(0), (2, 0, 0), 0, "0 steps; expected 1 to max_steps 5"),
        (BLIND, end(6), (2, 72, 6), 0, "6 steps; expected 1 to max_steps 5"),
        (SPEC, end(3), (2, 36, 3), 2, "End says 3 steps, frames came for 2"),
        (SPEC, end(3), (2, 36), 3, "expected the attributes and 2 columns as payload, found 2 frames"),
        (SPEC, end(3), (), 3, "expected the attributes and 2 columns as payload, found 0 frames"),
        (SPEC, end(3), (1, 36, 3), 3, "the attributes take 1 bytes; expected 2 to"),
        (SPEC, end(3), (MAX_ATTRIBUTE_BYTES + 1, 36, 3), 3, f"the attributes take {MAX_ATTRIBUTE_BYTES + 1} bytes"),
        (SPEC, end(3), (2, 35, 3), 3, "column 'state': expected 3 steps × 12 bytes = 36, found 35"),
        (SPEC, end(3), (2, 36, 12), 3, "column 'done': expected 3 steps × 1 bytes = 3, found 12"),
    ],
)
def test_ends_that_do_not_fit(spec: StreamSpec, message: End, sizes: tuple[int, ...], steps: int, why: str) -> None:
    with refused(why):
        check_end(spec, message, sizes, steps)
