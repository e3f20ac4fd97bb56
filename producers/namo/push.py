"""What a push did: one result of `World.push`, with its motion primitives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.namo.scene import State


class PushCode(StrEnum):
    """Why a push ended."""

    REACHED = "reached"  # the object is at its target
    GOAL_OPEN = "goal_open"  # the robot's goal can be reached
    NO_EDGE = "no_edge"  # the robot can get to no face of the object
    NO_IMPROVE = "no_improve"  # no primitive promises to bring the object nearer, or none did
    STUCK = "stuck"  # the object does not move any more
    ROBOT_CONTACT = "robot_contact"  # the robot ran into a wall or into another movable
    ITERATIONS = "iterations"  # as many primitives as a push may have
    NO_PATH = "no_path"  # the robot did not get to the edge point
    BUDGET = "budget"  # `allow` said no
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Primitive:
    """One executed motion primitive.

    face (0: +x, 1: +y, 2: -x, 3: -y of the object) and contact (0, 1, 2 along the face): where the robot pushed; steps:
    how many lengths. path_m: driven to get there [m]. moved_m, turned_rad: of the object, from the state before the
    drive to the state after. The robot touched a wall, or another movable than the one it pushes, or the object did,
    at some control step of drive, push and step back. stuck: ended because the object no longer moved. aborted: ended
    because the robot touched a wall or another movable while it pushed.
    """

    face: int
    contact: int
    steps: int
    path_m: float
    moved_m: float
    turned_rad: float
    robot_wall: bool
    robot_movable: bool
    object_wall: bool
    object_movables: tuple[str, ...]
    stuck: bool
    aborted: bool
    sim_steps: int


@dataclass(frozen=True)
class PushResult:
    """before, after: with the robot at rest. achieved: pose of the pushed object in `after` [m, m, rad]."""

    code: PushCode
    before: State
    after: State
    achieved: tuple[float, float, float]
    primitives: tuple[Primitive, ...]
    goal_open: bool
