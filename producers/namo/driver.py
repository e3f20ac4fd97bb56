"""The robot drives along a way, in the simulation, and notes what it touches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.namo.simulation import Simulation, Touches

_ARRIVED_M = 0.004
_PASSED_M = 0.02  # way points in between count as reached this near
_CORNER_SPEED = 0.6  # at way points in between [m/s]
_BRAKE_SHARE = 0.5  # of the acceleration, kept for following the way
_FORESIGHT_S = 0.1
_SLOWEST = 0.02  # [m/s]
# How long a drive may take: this many times its planned time, and a little more [s].
_PATIENCE, _PATIENCE_S = 3.0, 1.0


@dataclass
class ContactLog:
    """What was touched since the log began, besides the pushed object by the robot."""

    robot_wall: bool = False
    robot_movable: bool = False
    object_wall: bool = False
    others: frozenset[int] = frozenset()

    def note(self, touches: Touches) -> None:
        """Adds what touches now."""
        self.robot_wall |= touches.robot_wall
        self.robot_movable |= touches.robot_movable
        self.object_wall |= touches.pushed_wall
        self.others |= frozenset(touches.others)


@dataclass(frozen=True)
class Course:
    """A way to drive: points float64[K, 2], the first is where the robot stands; speed: top speed [m/s]."""

    points: NDArray[np.float64]
    speed: float


def drive(simulation: Simulation, course: Course, log: ContactLog) -> bool:
    """True: the robot stands at the end. A movable that it touches on the way moves; `log` has it."""
    brake, top_speed = _BRAKE_SHARE * simulation.acceleration, min(course.speed, simulation.top_speed)
    ends = course.points[1:].tolist()
    left = _intervals(simulation, course.points, (top_speed, brake))
    for number, (x, y) in enumerate(ends):
        final = number == len(ends) - 1
        near, exit_speed = (_ARRIVED_M, 0.0) if final else (_PASSED_M, min(_CORNER_SPEED, _turning_speed(brake)))
        while True:
            at_x, at_y = simulation.robot()
            away = math.hypot(x - at_x, y - at_y)
            if away <= near and (not final or simulation.speed() < _SLOWEST):
                break
            if left == 0:
                return False
            left -= 1
            # One interval passes before the next command, so brake for where the robot is then.
            speed = min(top_speed, math.sqrt(exit_speed**2 + 2 * brake * away), away / simulation.control_s / 2)
            # A weak robot that wants to be fast at once has no force left to stay on its way.
            speed = min(max(speed, exit_speed), simulation.speed() + simulation.acceleration * _FORESIGHT_S)
            speed /= max(away, 1e-9)
            simulation.move(speed * (x - at_x), speed * (y - at_y))
            log.note(simulation.touches(None))
    return True


def _turning_speed(brake: float) -> float:
    """At which a turn leaves the way by a centimetre or two [m/s]."""
    return math.sqrt(brake * _PASSED_M)


def _intervals(simulation: Simulation, points: NDArray[np.float64], can: tuple[float, float]) -> int:
    """Control intervals that a drive may take with this speed and deceleration."""
    (speed, brake), lengths = can, np.hypot(*np.diff(points, axis=0).T)
    planned = float(np.sum(lengths / speed + 2 * np.sqrt(lengths / brake)))
    return math.ceil((_PATIENCE * planned + _PATIENCE_S) / simulation.control_s)
