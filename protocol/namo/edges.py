"""Edge points: where the robot stands to push a box. Three on each face, all at one distance from it.

The same points decide whether a box counts as reachable and where the robot really goes. Edge number = 3 · face +
contact; faces are +x, +y, -x, -y of the box, contacts run counter-clockwise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol.namo.scene import Box
from protocol.namo.wavefront import Reach

FACES, CONTACTS = 4, 3
EDGES = FACES * CONTACTS
GAP_M = 0.02  # between robot and face at an edge point
# Outer contacts are so far inside the corner, or half way out on a face that is too short for that [m].
_FROM_CORNER_M = 0.05
# The cell of an edge point may count as taken by the box itself (half a cell's diagonal is more than the gap) [m].
_NEAR_M = 0.045

Pose = tuple[float, float, float]


def face_points(box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contacts on the faces and inward normals in the box's frame, float64[12, 2] each [m]."""
    return _face_points(box.half_x, box.half_y)


@lru_cache(1024)
def _face_points(half_x: float, half_y: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, normals = [], []
    for face in range(FACES):
        outward = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][face])
        along = np.array([-outward[1], outward[0]])
        depth, width = (half_x, half_y) if face % 2 == 0 else (half_y, half_x)
        aside = max(width - _FROM_CORNER_M, width / 2)
        points += [depth * outward + shift * along for shift in (-aside, 0.0, aside)]
        normals += [-outward] * CONTACTS
    found = np.array(points), np.array(normals)
    for rows in found:
        rows.setflags(write=False)
    return found


def edge_points(box: Box, pose: Pose, robot_radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the robot's centre stands, and inward normals, both in the world: float64[12, 2] each [m]."""
    points, normals = face_points(box)
    turn = rotation(pose[2])
    return (points - (robot_radius + GAP_M) * normals) @ turn.T + np.array(pose[:2]), normals @ turn.T


def reachable_edges(reach: Reach, box: Box, pose: Pose) -> NDArray[np.bool_]:
    """bool[12]: the robot can get there and stand there, touching no wall and no other movable."""
    scene = reach.wavefront.scene
    points, _ = edge_points(box, pose, scene.robot_radius)
    clear = reach.clearance(points, without=scene.place(box.name)) >= scene.robot_radius
    at = zip(clear.tolist(), points.tolist(), strict=True)
    return np.array([ok and reach.nearest(x, y, _NEAR_M) is not None for ok, (x, y) in at])


def reachable_places(reach: Reach) -> list[int]:
    """Places of the movables that the robot can get to some edge point of, in the scene's order."""
    boxes = enumerate(zip(reach.wavefront.scene.movables, reach.state.movables.tolist(), strict=True))
    return [place for place, (box, (x, y, yaw)) in boxes if reachable_edges(reach, box, (x, y, yaw)).any()]


def rotation(yaw: float) -> NDArray[np.float64]:
    """float64[2, 2]: from a frame turned by yaw [rad] to the world."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([(cos, -sin), (sin, cos)])
