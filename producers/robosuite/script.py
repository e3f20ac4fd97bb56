"""The waypoints of the pick-and-place script, from what is observed and the task's geometry.

Positions in world [m], float64[3]. While the object is held, waypoints are meant for its origin and moved by the offset
from there to the hand.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.robosuite.tasks import BIN_RIM_HEIGHT, BIN_WALL_NEAR_FACE, TaskGeometry

# The hand passes so high above the object's top: the fingers end 0.01 below the grip site [m].
HOVER_M = 0.02
# The hand may be so much higher above the object per metre that it is aside.
FUNNEL_SLOPE = 2.0
# The object's lowest point passes the rim by so much [m].
RIM_CLEARANCE_M = 0.02
# From the target to where the fingers let go [m]: this side of it, for that is a shorter way and the Panda cannot reach
# the middle of the can's quarter with its hand straight down; and above it, for the object may fall.
RELEASE_OFFSET_M = (-0.01, -0.03, 0.06)
# The object's outline lies over its quarter of the bin when its middle is this far, less its radius, from the release
# point [m].
BIN_REACH_M = 0.10
RETREAT_M = 0.10
# Half the length (along the finger axis) and thickness of the Panda's palm, and its height above the grip site [m].
PALM_LENGTH_M, PALM_THICKNESS_M, PALM_ABOVE_M = 0.102, 0.032, 0.030
# Bin 1 between the inner faces of its walls, in world x and y [m] (models/assets/arenas/bins_arena.xml).
PICK_BIN_CENTRE_M, PICK_BIN_HALF_M = np.array([0.1, -0.25]), np.array([0.19, 0.24])


class Seen:
    """One observation in float64, as the script uses it."""

    def __init__(self, timestep: TimeStep) -> None:
        def row(name: str) -> NDArray[np.float64]:
            return np.asarray(timestep.observation[f"observations/{name}"], dtype=np.float64)

        self.hand = row("eef_pos")
        self.hand_quat = row("eef_quat")
        self.object = row("object_pos")
        self.object_quat = row("object_quat")
        left, right = row("gripper_qpos")
        self.half_opening = float(left - right) / 2.0


class Script:
    """Where the hand has to be, phase by phase."""

    def __init__(self, geometry: TaskGeometry) -> None:
        self._task = geometry.task
        self._target = np.array(geometry.target)
        self._release = self._target + RELEASE_OFFSET_M
        self.lifts_only = geometry.task.bin_index is None

    def grasp(self, seen: Seen) -> NDArray[np.float64]:
        """Where the fingers should close."""
        return seen.object + _up(self._task.grasp_height)

    def palm_overlap(self, seen: Seen, yaw: float) -> float:
        """How far the palm would overlap a wall of bin 1 with the hand down at that yaw [m]; ≤ 0: not at all."""
        if self.lifts_only or self.grasp(seen)[2] + PALM_ABOVE_M > BIN_RIM_HEIGHT:
            return 0.0
        along, across = abs(sin(yaw)), abs(cos(yaw))
        extent = PALM_LENGTH_M * np.array([along, across]) + PALM_THICKNESS_M * np.array([across, along])
        return float(np.max(np.abs(seen.object[:2] - PICK_BIN_CENTRE_M) + extent - PICK_BIN_HALF_M))

    def hover(self, seen: Seen) -> NDArray[np.float64]:
        """Over the object; straight up first when the hand is too low to go there."""
        point = seen.object + _up(self._task.above + HOVER_M)
        aside = float(np.linalg.norm((point - seen.hand)[:2]))
        if seen.hand[2] < point[2] - HOVER_M and aside > HOVER_M:
            return np.array([seen.hand[0], seen.hand[1], point[2]])
        return point

    def way_to_grasp(self, seen: Seen) -> float:
        """How far it is to the grasp, first aside and then down [m]."""
        gap = self.grasp(seen) - seen.hand
        return float(np.linalg.norm(gap[:2]) + abs(gap[2]))

    def descent(self, seen: Seen, reach: float) -> NDArray[np.float64]:
        """The grasp, or a point above it while the hand is more than `reach` aside and would land on the object."""
        grasp = self.grasp(seen)
        aside = float(np.linalg.norm((grasp - seen.hand)[:2]))
        highest = self._task.above + HOVER_M - self._task.grasp_height
        return grasp + _up(float(np.clip(FUNNEL_SLOPE * (aside - reach), 0.0, highest)))

    def lift(self, seen: Seen, early: float | None) -> NDArray[np.float64]:
        """Travel height; with `early`, the object may meanwhile go towards the target, as far as leaves it that much to
        rise before the wall [m].
        """
        if self.lifts_only:
            return np.array([seen.hand[0], seen.hand[1], self._target[2] + (seen.hand - seen.object)[2]])
        point = np.array([seen.object[0], seen.object[1], self._travel_height()])
        if early is not None:
            wall = BIN_WALL_NEAR_FACE - self._task.radius - early
            point[:2] = self._release[0], max(point[1], min(float(self._release[1]), wall))
        return seen.hand + (point - seen.object)

    def over_target(self, seen: Seen) -> NDArray[np.float64]:
        """Over the release point at travel height."""
        point = np.array([self._release[0], self._release[1], self._travel_height()])
        return seen.hand + (point - seen.object)

    def lowering(self, seen: Seen, reach: float) -> NDArray[np.float64]:
        """The release point, or one above it while the object is more than `reach` aside: there is a wall before it."""
        aside = float(np.linalg.norm((self._release - seen.object)[:2]))
        above = float(np.clip(aside - reach, 0.0, self._travel_height() - self._release[2]))
        return self._release + _up(above) + (seen.hand - seen.object)

    def retreat(self, seen: Seen) -> NDArray[np.float64]:
        """Straight up from here."""
        return seen.hand + _up(RETREAT_M)

    def over_bin(self, seen: Seen) -> bool:
        """The object would fall into its quarter of the bin."""
        return float(np.linalg.norm((self._release - seen.object)[:2])) < BIN_REACH_M - self._task.radius

    def height_above_release(self, seen: Seen) -> float:
        """How much higher the object is than where it should be let go [m]."""
        return float(seen.object[2] - self._release[2])

    def distance_to_target(self, seen: Seen) -> float:
        """From the object's origin to where it should end [m]; only the height counts for a lift."""
        gap = seen.object - self._target
        return abs(float(gap[2])) if self.lifts_only else float(np.linalg.norm(gap))

    def _travel_height(self) -> float:
        """Height of the object's origin when it passes the rim."""
        return BIN_RIM_HEIGHT + RIM_CLEARANCE_M + self._task.below


def _up(height: float) -> NDArray[np.float64]:
    return np.array([0.0, 0.0, height])
