"""How a world pushes."""

from __future__ import annotations

from dataclasses import dataclass

from producers.namo.mjcf_model import PUSH_SPEED


@dataclass(frozen=True)
class WorldConfig:
    """near_m, near_rad: the object counts as at its target. iterations: primitives of one push, at most.

    failures: a push ends when primitives from so many edges got stuck or were aborted; such an edge is not used again
    in this push. idle: a push ends when so many primitives in succession gained nothing. drive_speed, push_speed: of
    the robot [m/s]. teleport: the robot is put at its edge point, as in the original, instead of driving there, and
    does not step back afterwards.
    """

    near_m: float = 0.1
    near_rad: float = 0.2
    iterations: int = 10
    failures: int = 2
    idle: int = 3
    drive_speed: float = 2.0
    push_speed: float = PUSH_SPEED
    teleport: bool = False
