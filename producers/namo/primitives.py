"""Which motion primitive to execute next: a table of what each one does to a box, and a look two steps ahead.

The table is computed, not measured: a slow push at one point of a face, against friction whose limit surface is an
ellipsoid. The force is the one that keeps the contact from sliding, or lies on the edge of the contact's friction
cone. Such a push moves the box with one constant body twist, so every entry has a closed form. The prediction need not
be exact, because only the first primitive is executed before the choice is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol.namo.edges import Pose, face_points
from protocol.namo.scene import Box

STEPS = 6  # lengths of the longest primitive
STEP_M = 0.1  # one length
CONTACT_FRICTION = 0.5  # between robot and box
YAW_WEIGHT = 0.5  # metres that one radian is worth
# A second primitive, and a drive to another edge, must each be worth this much [m].
_SECOND_M, _CHANGE_M = 0.02, 0.01


@dataclass(frozen=True)
class Choice:
    """edge: which edge point; steps: how many lengths; cost: predicted after one or two primitives [m]."""

    edge: int
    steps: int
    cost: float


def pose_cost(pose: NDArray[np.float64], target: Pose) -> NDArray[np.float64]:
    """|Δp| + 0.5 |Δθ| of poses float64[..., 3] [m]. A box turned by half a turn is the same box."""
    return distance(pose, target) + YAW_WEIGHT * turn(pose, target)


def distance(pose: NDArray[np.float64], target: Pose) -> NDArray[np.float64]:
    """Of positions [m]."""
    away: NDArray[np.float64] = np.hypot(pose[..., 0] - target[0], pose[..., 1] - target[1])
    return away


def turn(pose: NDArray[np.float64], target: Pose) -> NDArray[np.float64]:
    """Between yaws, modulo half a turn [rad], 0 to π/2."""
    off: NDArray[np.float64] = np.absolute((pose[..., 2] - target[2] + np.pi / 2) % np.pi - np.pi / 2)
    return off


@lru_cache(256)
def table(half_x: float, half_y: float) -> NDArray[np.float64]:
    """float64[12, STEPS, 3]: dx, dy, dθ in the box's frame after a push of 1 … STEPS lengths [m, rad]."""
    points, normals = face_points(Box(name="box", x=0, y=0, yaw=0, half_x=half_x, half_y=half_y))
    velocity, turn_rate = _twists(points, normals, mean_radius(half_x, half_y) ** 2)
    lengths = STEP_M * np.arange(1, STEPS + 1)
    angle = turn_rate[:, None] * lengths
    along = np.sinc(angle / np.pi) * lengths
    aside = np.sinc(angle / 2 / np.pi) ** 2 * angle * lengths / 2
    dx = velocity[:, :1] * along - velocity[:, 1:] * aside
    dy = velocity[:, 1:] * along + velocity[:, :1] * aside
    result: NDArray[np.float64] = np.stack([dx, dy, angle], axis=-1)
    result.setflags(write=False)
    return result


def _twists(
    points: NDArray[np.float64], normals: NDArray[np.float64], radius2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Velocity float64[12, 2] and turning float64[12] of the box for each metre that its contact moves inwards.

    The velocity has the direction of the force; the turning is the force's lever / radius² times the velocity.
    """
    lever = _cross(points, normals)
    # If the contact does not slide, it moves by its normal.
    rate = lever / (radius2 + (points**2).sum(axis=1))
    sticking = normals + rate[:, None] * np.stack([points[:, 1], -points[:, 0]], axis=1)
    along = np.stack([-normals[:, 1], normals[:, 0]], axis=1)
    slope = (sticking * along).sum(axis=1) / (sticking * normals).sum(axis=1)
    force = normals + np.clip(slope, -CONTACT_FRICTION, CONTACT_FRICTION)[:, None] * along
    rate = _cross(points, force) / radius2
    # What the contact moves inwards while the box moves by `force`: by that everything is divided.
    inwards = 1 + rate * lever
    return force / inwards[:, None], rate / inwards


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    return product


@lru_cache(1024)
def mean_radius(half_x: float, half_y: float) -> float:
    """Mean distance of a rectangle's points to its centre [m]: sliding friction × this is its turning friction."""
    x, y = ((np.arange(64) + 0.5) / 64 * half for half in (half_x, half_y))
    return float(np.hypot(x[:, None], y[None, :]).mean())


def choose(box: Box, pose: Pose, target: Pose, usable: NDArray[np.bool_], last: int | None = None) -> Choice | None:
    """The best first primitive, over one or two of them from the usable edges (bool[12]). None: none brings it nearer.

    last: the edge where the robot already stands, which is worth a little.
    """
    edges = np.flatnonzero(usable)
    if not len(edges):
        return None
    moves = table(box.half_x, box.half_y)[edges].reshape(-1, 3)
    once = _moved(np.array(pose), moves)
    twice = _moved(once[:, None, :], moves[None])
    change = np.where(edges == last, 0.0, _CHANGE_M).repeat(STEPS)
    single = pose_cost(once, target) + change
    double = pose_cost(twice, target).min(axis=1) + _SECOND_M + change
    cost = np.minimum(single, double)
    best = int(np.argmin(cost))
    if cost[best] >= pose_cost(np.array(pose), target):
        return None
    return Choice(int(edges[best // STEPS]), best % STEPS + 1, float(cost[best]))


def _moved(pose: NDArray[np.float64], move: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses after moves given in their own frames."""
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    x = pose[..., 0] + cos * move[..., 0] - sin * move[..., 1]
    y = pose[..., 1] + sin * move[..., 0] + cos * move[..., 1]
    return np.stack([x, y, pose[..., 2] + move[..., 2]], axis=-1)
