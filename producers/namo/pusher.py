"""One motion primitive: drive to an edge point, push along the face's normal, come to rest, step back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from producers.namo.bodies import wrapped
from producers.namo.driver import ContactLog, Course, drive
from producers.namo.primitives import STEP_M
from producers.namo.push import Primitive
from producers.namo.simulation import Simulation
from producers.namo.world_config import WorldConfig
from protocol.namo.edges import CONTACTS, GAP_M, edge_points, face_points, rotation
from protocol.namo.path import find_path, path_length
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Reach

_APPROACH_M = 0.06  # the robot comes straight in, and leaves straight, over this beyond the edge point
_SIDE_GAIN, _SIDE_SPEED = 5.0, 0.25  # how the robot stays at its contact [1/s], [m/s]
_STUCK_M, _STUCK_RAD, _STUCK_CHECKS = 0.001, 0.01, 3
_CHECK_S, _MOTOR_CHECK_S = 0.04, 0.2
_SETTLE_S = 0.5
_PATIENCE, _PATIENCE_S = 1.5, 0.5  # a push may take this many times its planned time, and a little more [s]


@dataclass(frozen=True)
class Task:
    """Which primitive: of which movable, from which edge point, how many lengths."""

    number: int
    edge: int
    steps: int


class End(Enum):
    """Of the pushing part of a primitive."""

    DONE = auto()
    STUCK = auto()
    CONTACT = auto()


class Pusher:
    """Executes primitives; each one is a function of the state that it begins in."""

    def __init__(self, scene: Scene, simulation: Simulation, config: WorldConfig) -> None:
        self._scene, self._simulation, self._config = scene, simulation, config
        check = _MOTOR_CHECK_S if simulation.has_motors else _CHECK_S
        self._check_every = max(round(check / simulation.control_s), 1)

    def execute(self, reach: Reach, task: Task) -> tuple[Primitive | None, State]:
        """None: the robot did not get to the edge point; the state then is where that ended."""
        simulation, log = self._simulation, ContactLog()
        before, began = reach.state, simulation.steps
        course = self._way(reach, task)
        if course is None:
            return None, before
        simulation.set(State(course.points[0], before.movables))
        if not self._config.teleport and not drive(simulation, course, log):
            self._settle()
            return None, simulation.read()
        end = self._push(task, log)
        self._settle()
        self._step_back(task, log)
        after = simulation.read()
        return self._primitive(task, log, end, path_length(course.points), (before, after, began)), after

    def drive_to(self, reach: Reach, end: tuple[float, float]) -> tuple[State, bool]:
        """Drives over the floor only."""
        start = (float(reach.state.robot[0]), float(reach.state.robot[1]))
        points = find_path(reach, start, end)
        if points is None:
            return reach.state, False
        self._simulation.set(reach.state)
        there = drive(self._simulation, Course(points, self._config.drive_speed), ContactLog())
        self._settle()
        return self._simulation.read(), there

    def _way(self, reach: Reach, task: Task) -> Course | None:
        """To the edge point; over a point farther out where there is room, so that the robot comes straight in."""
        box, pose = self._scene.movables[task.number], tuple(reach.state.movables[task.number].tolist())
        points, normals = edge_points(box, pose, self._scene.robot_radius)
        edge, before = points[task.edge], points[task.edge] - _APPROACH_M * normals[task.edge]
        if self._config.teleport:
            return Course(edge[None], 0.0)
        start = (float(reach.state.robot[0]), float(reach.state.robot[1]))
        if reach.contains(*before):
            found = find_path(reach, start, (float(before[0]), float(before[1])))
            found = None if found is None else np.concatenate([found, edge[None]])
        else:
            found = find_path(reach, start, (float(edge[0]), float(edge[1])))
        return None if found is None else Course(found, self._config.drive_speed)

    def _push(self, task: Task, log: ContactLog) -> End:
        """Until the robot has gone all the way, or cannot."""
        simulation, length = self._simulation, task.steps * STEP_M + GAP_M
        guide = Guide.of(self._scene.movables[task.number], task.edge, self._config.push_speed)
        done, at, pose = 0.0, simulation.robot(), simulation.pose(task.number)
        left = math.ceil((_PATIENCE * self._planned(length) + _PATIENCE_S) / simulation.control_s)
        touched, still = False, StillCheck(self._check_every)
        while done < length and left > 0:
            (vx, vy), (nx, ny) = guide.command(pose, at)
            simulation.move(vx, vy)
            now, pose, touches = simulation.robot(), simulation.pose(task.number), simulation.touches(task.number)
            left, done, at = left - 1, done + (now[0] - at[0]) * nx + (now[1] - at[1]) * ny, now
            log.note(touches)
            touched |= touches.robot_pushed
            if touches.robot_wall or touches.robot_movable:
                return End.CONTACT
            if touched and still.check(pose):
                return End.STUCK
        return End.DONE if done >= length else End.STUCK

    def _planned(self, length: float) -> float:
        return length / self._config.push_speed + 2 * math.sqrt(length / self._simulation.acceleration)

    def _settle(self) -> None:
        """Takes all speed out, as the original does after a push (a slow push has no swing); contacts relax."""
        simulation = self._simulation
        simulation.stop()
        for _ in range(math.ceil(_SETTLE_S / simulation.control_s)):
            simulation.move(0.0, 0.0)
            if simulation.at_rest:
                break

    def _step_back(self, task: Task, log: ContactLog) -> None:
        """Away from the face, so that the next drive begins with room; as far as nothing is in the way."""
        simulation = self._simulation
        if self._config.teleport:
            return
        yaw, inward = simulation.pose(task.number)[2], face_points(self._scene.movables[task.number])[1][task.edge]
        (ox, oy), (x0, y0) = (-rotation(yaw) @ inward).tolist(), simulation.robot()
        free = True
        for _ in range(math.ceil(2 * self._planned(_APPROACH_M) / simulation.control_s)):
            x, y = simulation.robot()
            if not free or (x - x0) * ox + (y - y0) * oy >= _APPROACH_M:
                break
            simulation.move(self._config.push_speed * ox, self._config.push_speed * oy)
            touches = simulation.touches(task.number)
            log.note(touches)
            free = not (touches.robot_wall or touches.robot_movable)
        self._settle()

    def _primitive(
        self, task: Task, log: ContactLog, end: End, path_m: float, run: tuple[State, State, int]
    ) -> Primitive:
        before, after, began = run
        (x, y, yaw), (x0, y0, yaw0) = after.movables[task.number].tolist(), before.movables[task.number].tolist()
        return Primitive(
            face=task.edge // CONTACTS,
            contact=task.edge % CONTACTS,
            steps=task.steps,
            path_m=path_m,
            moved_m=math.hypot(x - x0, y - y0),
            turned_rad=abs(wrapped(yaw - yaw0)),
            robot_wall=log.robot_wall,
            robot_movable=log.robot_movable,
            object_wall=log.object_wall,
            object_movables=tuple(self._scene.movables[other].name for other in sorted(log.others)),
            stuck=end is End.STUCK,
            aborted=end is End.CONTACT,
            sim_steps=self._simulation.steps - began,
        )


@dataclass(frozen=True)
class Guide:
    """Where a pushing robot goes: along the face's normal, and sideways back to its contact on the face.

    contact, inward: of the edge point, in the box's frame.
    """

    contact: tuple[float, float]
    inward: tuple[float, float]
    speed: float

    @staticmethod
    def of(box: Box, edge: int, speed: float) -> Guide:
        """For one edge point of a box."""
        (cx, cy), (nx, ny) = (rows[edge].tolist() for rows in face_points(box))
        return Guide((cx, cy), (nx, ny), speed)

    def command(
        self, pose: tuple[float, float, float], robot: tuple[float, float]
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """The robot's velocity [m/s], and the face's inward normal now."""
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        dx, dy, (nx, ny) = robot[0] - pose[0], robot[1] - pose[1], self.inward
        off_x, off_y = cos * dx + sin * dy - self.contact[0], cos * dy - sin * dx - self.contact[1]
        aside = -_SIDE_GAIN * (nx * off_y - ny * off_x)
        aside = min(max(aside, -_SIDE_SPEED), _SIDE_SPEED)
        vx, vy = self.speed * nx - aside * ny, self.speed * ny + aside * nx
        return (cos * vx - sin * vy, sin * vx + cos * vy), (cos * nx - sin * ny, sin * nx + cos * ny)


class StillCheck:
    """Has an object been still for three checks in succession?"""

    def __init__(self, every: int) -> None:
        self._every, self._calls, self._still = every, 0, 0
        self._last: tuple[float, float, float] | None = None

    def check(self, pose: tuple[float, float, float]) -> bool:
        """One control interval is over."""
        self._calls += 1
        if self._calls % self._every:
            return False
        if self._last is not None:
            moved = math.dist(pose[:2], self._last[:2]) >= _STUCK_M
            moved |= abs(wrapped(pose[2] - self._last[2])) >= _STUCK_RAD
            self._still = 0 if moved else self._still + 1
        self._last = pose
        return self._still >= _STUCK_CHECKS
