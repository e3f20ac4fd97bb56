"""A scene seen from above: walls, boxes that can be pushed, a round robot, and where it wants to go.

All lengths are metres, all angles radians, in one world frame (x to the right, y up, yaw counter-clockwise from x).
Names are those of the original MJCF files: `wall_*`, `obstacle_*_movable`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

MAX_WALLS = 1024
MAX_MOVABLES = 64

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Metres = Annotated[float, Meta(ge=-1e4, le=1e4)]
HalfExtent = Annotated[float, Meta(gt=0, le=1e4)]
Point = tuple[Metres, Metres]


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box standing on the floor: its centre, its yaw, its half extents. mass [kg], friction (sliding) of movables."""

    name: Name
    x: Metres
    y: Metres
    yaw: Metres
    half_x: HalfExtent
    half_y: HalfExtent
    half_z: HalfExtent = 0.3
    mass: Annotated[float, Meta(gt=0, le=1e4)] = 0.1
    friction: Annotated[float, Meta(ge=0, le=10)] = 0.5


class Scene(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that an environment index stands for. bounds: x0, x1, y0, y1."""

    name: Annotated[str, Meta(max_length=255)]
    bounds: tuple[Metres, Metres, Metres, Metres]
    robot: Point
    goal: Point
    walls: Annotated[tuple[Box, ...], Meta(max_length=MAX_WALLS)]
    movables: Annotated[tuple[Box, ...], Meta(max_length=MAX_MOVABLES)]
    robot_radius: Annotated[float, Meta(gt=0, le=10)] = 0.15
    goal_tolerance: Annotated[float, Meta(gt=0, le=10)] = 0.15

    def __post_init__(self) -> None:
        x0, x1, y0, y1 = self.bounds
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"bounds are x0 < x1 and y0 < y1, found {self.bounds}")
        names = [box.name for box in (*self.walls, *self.movables)]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"names must be unique, found twice: {', '.join(twice)}")

    def digest(self) -> str:
        """SHA-256 of everything but the name, hexadecimal: equal scenes have equal digests on every machine."""
        content = msgspec.to_builtins(msgspec.structs.replace(self, name=""))
        return hashlib.sha256(msgspec.json.encode(_as_floats(content))).hexdigest()

    def place(self, name: str) -> int:
        """Which of the movables has this name. Raises KeyError."""
        for number, box in enumerate(self.movables):
            if box.name == name:
                return number
        raise KeyError(name)


@dataclass(frozen=True)
class State:
    """Where everything that moves is: robot float64[2] x, y; movables float64[M, 3] x, y, yaw, in the scene's order."""

    robot: NDArray[np.float64]
    movables: NDArray[np.float64]

    @staticmethod
    def initial(scene: Scene) -> State:
        """As the scene says."""
        poses = [(box.x, box.y, box.yaw) for box in scene.movables]
        return State(np.array(scene.robot, np.float64), np.array(poses, np.float64).reshape(-1, 3))

    @cached_property
    def key(self) -> bytes:
        """Equal states have equal keys."""
        return self.robot.tobytes() + self.movables.tobytes()


def _as_floats(value: object) -> object:
    """1 and 1.0, -0.0 and 0.0 are equal, and are written alike."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(item) for item in value]
    return float(value) + 0.0 if isinstance(value, int | float) else value
