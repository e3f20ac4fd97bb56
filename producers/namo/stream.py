"""A search as rows of its stream; the layout is in `protocol/namo/episodes.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.namo.outcome import Attempt, PlanStep
from producers.namo.push import Primitive, PushResult
from protocol.namo.episodes import CAMERA, CONTACTS, MAX_PLAN_STEPS, MAX_PRIMITIVES, PUSH_CODES, AttemptTable, rounded
from protocol.namo.picture import FRAME_PIXELS
from protocol.namo.scene import Scene, State
from protocol.spec import Camera, Column, StreamSpec

# A push takes as long as it takes; steps are counted as one a second.
_RATE_HZ = 1.0


def stream_spec(name: str, max_movables: int) -> StreamSpec:
    """The schema of a stream with room for so many movables."""
    poses = (max_movables, 3)
    return StreamSpec(
        name=name,
        rate_hz=_RATE_HZ,
        max_steps=MAX_PLAN_STEPS,
        columns=(
            Column("object", "int32"),
            Column("target", "float64", (3,)),
            Column("achieved", "float64", (3,)),
            Column("observations/robot", "float64", (2,)),
            Column("observations/movables", "float64", poses, allow_nan=True),
            Column("next_observations/robot", "float64", (2,)),
            Column("next_observations/movables", "float64", poses, allow_nan=True),
            Column("code", "uint8"),
            Column("contacts", "uint8"),
            Column("touched", "uint64"),
            Column("goal_open", "bool"),
            Column("primitive_count", "int32"),
            Column("primitives", "int32", (MAX_PRIMITIVES, 3)),
            Column("primitive_motion", "float32", (MAX_PRIMITIVES, 3)),
        ),
        cameras=(Camera(CAMERA, FRAME_PIXELS, FRAME_PIXELS),),
    )


def row(scene: Scene, step: PlanStep, max_movables: int) -> dict[str, Any]:
    """One push of a plan as a row of the stream."""
    result = step.result
    numbers, motion = _primitives(result.primitives)
    return {
        "object": scene.place(step.object),
        "target": np.array(step.target, np.float64),
        "achieved": np.array(result.achieved, np.float64),
        "observations/robot": result.before.robot,
        "observations/movables": _padded(result.before, max_movables),
        "next_observations/robot": result.after.robot,
        "next_observations/movables": _padded(result.after, max_movables),
        "code": PUSH_CODES.index(str(result.code)),
        "contacts": contact_bits(result.primitives),
        "touched": _touched(scene, result.primitives),
        "goal_open": result.goal_open,
        "primitive_count": len(result.primitives),
        "primitives": numbers,
        "primitive_motion": motion,
    }


def attempt_table(scene: Scene, attempts: Sequence[Attempt]) -> AttemptTable:
    """All pushes that a search tried."""
    places = {attempt.number: row for row, attempt in enumerate(attempts)}
    moved: list[tuple[int, int, float, float, float]] = []
    for number, attempt in enumerate(attempts):
        moved += [(number, *rest) for rest in _moved(scene.place(attempt.object), attempt.result)]
    results = [attempt.result for attempt in attempts]
    return AttemptTable(
        parent=[places.get(attempt.parent, -1) for attempt in attempts],
        depth=[attempt.depth for attempt in attempts],
        object=[scene.place(attempt.object) for attempt in attempts],
        code=[PUSH_CODES.index(str(result.code)) for result in results],
        contacts=[contact_bits(result.primitives) for result in results],
        goal_open=[result.goal_open for result in results],
        primitives=[len(result.primitives) for result in results],
        target=[rounded(attempt.target) for attempt in attempts],  # type: ignore[misc]
        achieved=[rounded(result.achieved) for result in results],  # type: ignore[misc]
        robot=[rounded(result.after.robot) for result in results],  # type: ignore[misc]
        moved=moved,
    )


def contact_bits(primitives: Sequence[Primitive]) -> int:
    """What was touched during a push, as bits of CONTACTS."""
    bits = 0
    for primitive in primitives:
        for place, name in enumerate(CONTACTS):
            seen = primitive.object_movables if name == "object_movable" else getattr(primitive, name)
            bits |= bool(seen) << place
    return bits


def _touched(scene: Scene, primitives: Sequence[Primitive]) -> int:
    names = {name for primitive in primitives for name in primitive.object_movables}
    return sum(1 << scene.place(name) for name in names)


def _padded(state: State, max_movables: int) -> NDArray[np.float64]:
    rows = np.full((max_movables, 3), np.nan)
    rows[: len(state.movables)] = state.movables
    return rows


def _primitives(primitives: Sequence[Primitive]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    numbers = np.full((MAX_PRIMITIVES, 3), -1, np.int32)
    motion = np.zeros((MAX_PRIMITIVES, 3), np.float32)
    for place, primitive in enumerate(primitives[:MAX_PRIMITIVES]):
        numbers[place] = primitive.face, primitive.contact, primitive.steps
        motion[place] = primitive.path_m, primitive.moved_m, primitive.turned_rad
    return numbers, motion


def _moved(pushed: int, result: PushResult) -> list[tuple[int, float, float, float]]:
    """Place and pose of every other movable that a push displaced."""
    before, after = result.before.movables, result.after.movables
    places = [place for place in np.flatnonzero((before != after).any(axis=1)).tolist() if place != pushed]
    return [(place, *rounded(after[place])) for place in places]
