"""From where the hand is and should be to one OSC action: speed bands, and a hand that points straight down.

Frames: positions and rotations in world; the Panda's base stands parallel to it, so its deltas need no turn.
Quaternions are x y z w. `yaw` turns the hand about world z; at yaw 0 the fingers close along world y.
"""

from __future__ import annotations

from math import atan2, cos, pi, sin

import numpy as np
from numpy.typing import NDArray

# Stick deflection of a speed multiplier of 1. Twice it is the whole stick, about 0.3 m/s per axis: with kp 150 and
# critical damping, the controller settles at 0.05 m * sqrt(kp) / 2 per second.
BASE_SPEED = 0.5
# Distance to the waypoint [m] down to which each multiplier holds; nearer than the last, the slowest one does.
BAND_FAR_M, BAND_MIDDLE_M, BAND_NEAR_M = 0.15, 0.08, 0.03
MULTIPLIER_MIDDLE, MULTIPLIER_NEAR, MULTIPLIER_CLOSE = 1.5, 1.0, 0.5
# Faster turns saturate the wrist's torques, and then the hand strays from its path.
TURN_LIMIT = 0.4
# An object's own z leans so far from world z, or less, while it stands.
UPRIGHT_COSINE = 0.7


def speed_for(distance: float, speed_multiplier: float) -> float:
    """Stick deflection, at most 1, for a distance to the waypoint [m]; `speed_multiplier` is that of the far band."""
    if distance > BAND_FAR_M:
        multiplier = speed_multiplier
    elif distance > BAND_MIDDLE_M:
        multiplier = min(MULTIPLIER_MIDDLE, speed_multiplier)
    elif distance > BAND_NEAR_M:
        multiplier = min(MULTIPLIER_NEAR, speed_multiplier)
    else:
        multiplier = min(MULTIPLIER_CLOSE, speed_multiplier)
    return min(1.0, BASE_SPEED * multiplier)


def translate(error: NDArray[np.float64], speed: float, position_scale: float) -> NDArray[np.float64]:
    """Stick deflections, float64[3], towards an error [m]: each axis at `speed` until its own error is within reach."""
    return np.clip(error / position_scale, -speed, speed)


def rotate(hand_quat: NDArray[np.float64], yaw: float, rotation_scale: float) -> NDArray[np.float64]:
    """Stick deflections, float64[3], that turn the hand to point down at `yaw` [rad]."""
    # Pointing down is half a turn about x; yaw about z comes after it: (0 0 sin cos) * (1 0 0 0).
    goal = (cos(yaw / 2), sin(yaw / 2), 0.0, 0.0)
    x, y, z, w = (float(value) for value in hand_quat)
    turn = _multiply(goal, (-x, -y, -z, w))
    axis = np.array(turn[:3]) * (1.0 if turn[3] >= 0.0 else -1.0)
    sine = float(np.linalg.norm(axis))
    if sine == 0.0:
        return axis
    angle = 2.0 * atan2(sine, abs(turn[3]))
    return np.clip(axis * (angle / sine / rotation_scale), -TURN_LIMIT, TURN_LIMIT)


def hand_yaw(hand_quat: NDArray[np.float64]) -> float:
    """Yaw of a hand that points down, or nearly so [rad], in -π … π."""
    x, y, _, _ = (float(value) for value in hand_quat)
    return _wrap(2.0 * atan2(y, x), 2.0 * pi)


def yaw_to_grasp(object_quat: NDArray[np.float64], grasp_axis: float, period: float, near: float) -> float:
    """The yaw nearest to `near` at which the fingers close along `grasp_axis` of the object [rad].

    They close across an object that has fallen over, whatever its axis and period.
    """
    x, y, z, w = (float(value) for value in object_quat)
    upright = 1.0 - 2.0 * (x * x + y * y)
    if abs(upright) < UPRIGHT_COSINE:
        lies_along = atan2(2.0 * (y * z - w * x), 2.0 * (x * z + w * y))
        closing, period = lies_along + pi / 2, pi
    elif period == 0.0:
        return near
    else:
        closing = atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)) + grasp_axis
    # At yaw 0 the fingers already close along an axis a quarter turn from x.
    return near + _wrap(closing - pi / 2 - near, period)


def yaw_error(hand_quat: NDArray[np.float64], yaw: float) -> float:
    """How far the hand is turned from `yaw` [rad], 0 … π."""
    return abs(_wrap(hand_yaw(hand_quat) - yaw, 2.0 * pi))


def _wrap(angle: float, period: float) -> float:
    return angle - period * round(angle / period)


Quaternion = tuple[float, float, float, float]


def _multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product of two x y z w quaternions."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )
