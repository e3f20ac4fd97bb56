"""Small scenes for the tests."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from protocol.namo.scene import Box, Point, Scene

THICK = 0.05


def box(number: int, x: float, y: float, yaw: float = 0.0, half: tuple[float, float] = (0.3, 0.3)) -> Box:
    """A movable of 1 kg."""
    return Box(f"obstacle_{number}_movable", x, y, yaw, half[0], half[1], mass=1.0)


def room(movables: Iterable[Box], robot: Point = (-1.5, 0.0), walls: Iterable[Box] = (), goal: Point = (9, 9)) -> Scene:
    """4 m × 4 m around the origin, with outer walls. The goal is outside unless it is given."""
    outer = [
        Box("wall_1", -2, 0, 0, THICK, 2),
        Box("wall_2", 2, 0, 0, THICK, 2),
        Box("wall_3", 0, -2, 0, 2, THICK),
        Box("wall_4", 0, 2, 0, 2, THICK),
    ]
    return Scene("room", (-2, 2, -2, 2), robot, goal, (*outer, *walls), tuple(movables))


def divided(movables: Iterable[Box]) -> Scene:
    """Two rooms; the door at the origin is 0.8 m wide; the robot is left, the goal right."""
    inner = [Box("wall_5", 0, 1.2, 0, THICK, 0.8), Box("wall_6", 0, -1.2, 0, THICK, 0.8)]
    return room(movables, walls=inner, goal=(1.5, 0.0))


def segment_distance(point: tuple[float, float], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of a point to a line between two others [m]."""
    share = float(np.clip((np.array(point) - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1))
    return math.dist(point, a + share * (b - a))
