"""Where a movable should be pushed to, without a model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from producers.namo.options import GoalStrategy
from producers.namo.outcome import Target
from protocol.namo.scene import Box, Scene, State

# As in the original: how far a goal is from the movable [m].
NEAREST_M, FARTHEST_M = 0.3, 1.0
GRID_DISTANCES_M, GRID_DIRECTIONS = (0.2, 0.8), 8
# `adaptive` gives up on an object after this many draws for each goal that is wanted.
_DRAWS_PER_GOAL = 20


def angle(radians: float) -> float:
    """The same angle in [−π, π)."""
    return (radians + math.pi) % math.tau - math.pi


class GoalDrawer:
    """Draws goals in one scene. legacy_theta: the goal's yaw is the direction of the push, as in the original."""

    def __init__(self, scene: Scene, legacy_theta: bool = False) -> None:
        self._scene, self._legacy = scene, legacy_theta
        self._walls = [_corners((wall.x, wall.y, wall.yaw), wall) for wall in scene.walls]

    def draw(
        self, strategy: GoalStrategy, state: State, name: str, count: int, rng: np.random.Generator
    ) -> list[Target]:
        """At most `count` goals for one movable. `ml` is not among these strategies."""
        place = self._scene.place(name)
        pose = (float(state.movables[place, 0]), float(state.movables[place, 1]), float(state.movables[place, 2]))
        if strategy == "grid":
            return self._grid(pose, rng)[:count]
        if strategy == "random":
            return [self.random(pose, rng) for _ in range(count)]
        goals: list[Target] = []
        for _ in range(count * _DRAWS_PER_GOAL):
            goal = self.random(pose, rng)
            if self.fits(self._scene.movables[place], goal):
                goals.append(goal)
            if len(goals) == count:
                break
        return goals

    def random(self, pose: Target, rng: np.random.Generator) -> Target:
        """Any distance, any direction, any yaw."""
        distance, direction, yaw = rng.uniform(NEAREST_M, FARTHEST_M), *rng.uniform(-math.pi, math.pi, 2)
        return self._goal(pose, distance, direction, yaw)

    def fits(self, box: Box, goal: Target) -> bool:
        """A box lying there is within the bounds and overlaps no wall."""
        x0, x1, y0, y1 = self._scene.bounds
        corners = _corners(goal, box)
        low, high = corners.min(axis=0), corners.max(axis=0)
        if low[0] < x0 or high[0] > x1 or low[1] < y0 or high[1] > y1:
            return False
        return not any(_overlap(corners, wall) for wall in self._walls)

    def _grid(self, pose: Target, rng: np.random.Generator) -> list[Target]:
        """Every distance with every direction, shuffled; the yaw stays."""
        directions = [i * math.tau / GRID_DIRECTIONS for i in range(GRID_DIRECTIONS)]
        goals = [self._goal(pose, distance, way, pose[2]) for distance in GRID_DISTANCES_M for way in directions]
        return [goals[i] for i in rng.permutation(len(goals))]

    def _goal(self, pose: Target, distance: float, direction: float, yaw: float) -> Target:
        x, y = pose[0] + distance * math.cos(direction), pose[1] + distance * math.sin(direction)
        return x, y, angle(direction if self._legacy else yaw)


def _corners(pose: Target, box: Box) -> NDArray[np.float64]:
    """float64[4, 2], in order around the box."""
    x, y, yaw = pose
    cos, sin = math.cos(yaw), math.sin(yaw)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    sides = [(across * box.half_x, along * box.half_y) for across, along in signs]
    return np.array([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in sides])


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Two rectangles overlap unless one of their four edge directions separates them."""
    for axis in (a[0] - a[1], a[1] - a[2], b[0] - b[1], b[1] - b[2]):
        on_a, on_b = a @ axis, b @ axis
        if on_a.max() <= on_b.min() or on_b.max() <= on_a.min():
            return False
    return True
