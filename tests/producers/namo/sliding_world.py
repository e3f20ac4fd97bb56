"""A world whose pushes are computed, not simulated: boxes slide straight towards their target until something is there.

An oracle for searches, fast enough for hundreds of them. Reachability is the real wavefront's.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from producers.namo.goal_strategies import GoalDrawer, angle
from producers.namo.outcome import Allow, Target
from producers.namo.push import Primitive, PushCode, PushResult
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Reach, Wavefront

STEP_M = 0.1
RESOLUTION_M = 0.1
_SLID = Primitive(
    face=0, contact=0, steps=1, path_m=0.0, moved_m=STEP_M, turned_rad=0.0, robot_wall=False, robot_movable=False,
    aborted=False, object_wall=False, object_movables=(), stuck=False, sim_steps=1,
)  # fmt: skip


class SlidingWorld:
    """A push has one primitive for each STEP_M. asked: how often `allow` was called."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.wavefront = scene, Wavefront(scene, RESOLUTION_M)
        self._reach: dict[bytes, Reach] = {}
        self.asked = 0
        self.pushes = 0

    def initial(self) -> State:
        return State.initial(self.scene)

    def reach(self, state: State) -> Reach:
        if state.key not in self._reach:
            self._reach[state.key] = self.wavefront.reach(state)
        return self._reach[state.key]

    def reachable(self, state: State) -> tuple[str, ...]:
        reach = self.reach(state)
        return tuple(
            box.name
            for box, pose in zip(self.scene.movables, state.movables, strict=True)
            if any(reach.contains(*point) for point in self._sides(box, pose))
        )

    def push(self, state: State, name: str, target: Target, allow: Allow) -> PushResult:
        self.pushes += 1
        place, here, done = self.scene.place(name), state, []
        code = PushCode.ITERATIONS
        for _ in range(20):
            x, y, _ = here.movables[place]
            left = math.hypot(target[0] - x, target[1] - y)
            if self.reach(here).goal_open or left < 1e-9:
                code = PushCode.GOAL_OPEN if self.reach(here).goal_open else PushCode.REACHED
                break
            share = min(1.0, STEP_M / left)
            pose = (x + share * (target[0] - x), y + share * (target[1] - y), float(here.movables[place, 2]))
            if not self._free(here, place, pose):
                code = PushCode.STUCK
                break
            self.asked += 1
            if not allow():
                code = PushCode.BUDGET
                break
            movables = here.movables.copy()
            movables[place] = pose
            here = State(here.robot, movables)
            done.append(replace(_SLID))
        x, y, yaw = (float(value) for value in here.movables[place])
        return PushResult(code, state, here, (x, y, yaw), tuple(done), self.reach(here).goal_open)

    def _free(self, state: State, place: int, pose: Target) -> bool:
        boxes = [
            lying(box, other)
            for number, (box, other) in enumerate(zip(self.scene.movables, state.movables, strict=True))
            if number != place
        ]
        robot, radius = state.robot, self.scene.robot_radius
        boxes.append(Box("robot", float(robot[0]), float(robot[1]), 0.0, radius, radius))
        others = Scene("others", self.scene.bounds, (0, 0), (0, 0), (*self.scene.walls, *boxes), ())
        return GoalDrawer(others).fits(self.scene.movables[place], pose)

    def _sides(self, box: Box, pose: np.ndarray) -> list[tuple[float, float]]:
        x, y, yaw = (float(value) for value in pose)
        away = self.scene.robot_radius + RESOLUTION_M
        spots = [
            (box.half_x + away, 0.0),
            (-box.half_x - away, 0.0),
            (0.0, box.half_y + away),
            (0.0, -box.half_y - away),
        ]
        return [
            (x + a * math.cos(yaw) - b * math.sin(yaw), y + a * math.sin(yaw) + b * math.cos(yaw)) for a, b in spots
        ]


def lying(box: Box, pose: np.ndarray) -> Box:
    """The box where it lies now."""
    return Box(box.name, float(pose[0]), float(pose[1]), angle(float(pose[2])), box.half_x, box.half_y)


def frame(x1: float, y1: float) -> tuple[Box, ...]:
    """Four walls around (0, 0) … (x1, y1)."""
    return (
        Box("wall_0", x1 / 2, 0.0, 0.0, x1 / 2, 0.05),
        Box("wall_1", x1 / 2, y1, 0.0, x1 / 2, 0.05),
        Box("wall_2", 0.0, y1 / 2, 0.0, 0.05, y1 / 2),
        Box("wall_3", x1, y1 / 2, 0.0, 0.05, y1 / 2),
    )


def movable(number: int, x: float, y: float, half: tuple[float, float] = (0.25, 0.25), yaw: float = 0.0) -> Box:
    """obstacle_{number}_movable."""
    return Box(f"obstacle_{number}_movable", x, y, yaw, *half)


def two_rooms(*more: Box, walls: tuple[Box, ...] = (), door: float = 0.8, blocker: float = 2.0) -> Scene:
    """4 m × 3 m, a wall in the middle with a door that obstacle_0_movable blocks; the robot left, the goal right."""
    side = (3.0 - door) / 2
    wall = (Box("wall_4", 2.0, side / 2, 0.0, 0.05, side / 2), Box("wall_5", 2.0, 3.0 - side / 2, 0.0, 0.05, side / 2))
    everything = (*frame(4.0, 3.0), *wall, *walls)
    in_the_door = movable(0, blocker, 1.5, (0.25, 0.3))
    return Scene("two_rooms", (0.0, 4.0, 0.0, 3.0), (0.5, 1.5), (3.5, 1.5), everything, (in_the_door, *more))
