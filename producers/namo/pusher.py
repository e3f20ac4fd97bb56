"""One motion primitive: drive to an edge point, push along the face's normal, come to rest, step back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.namo.driver import ContactLog, Course, drive
from producers.namo.edges import CONTACTS, GAP_M, edge_points, face_points, rotation
from producers.namo.primitives import STEP_M
from producers.namo.push import Primitive
from producers.namo.simulation import Simulation, wrapped
from protocol.namo.path import find_path, path_length
from protocol.namo.scene import Scene, State
from protocol.namo.wavefront import Reach

_APPROACH_M = 0.06  # the robot comes straight in, and leaves straight, over this beyond the edge point
_SIDE_GAIN, _SIDE_SPEED = 5.0, 0.25  # how the robot stays at its contact [1/s], [m/s]
_STUCK_M, _STUCK_RAD, _STUCK_CHECKS = 0.001, 0.01, 3
_CHECK_S, _MOTOR_CHECK_S = 0.04, 0.2
_SETTLE_S = 0.5
_PATIENCE, _PATIENCE_S = 1.5, 0.5  # a push may take this many times its planned time, and a little more [s]


@dataclass(frozen=True)
class PushSpeeds:
    """Of the robot [m/s]. teleport: it is put at the edge point, and does not step back."""

    drive: float = 2.0
    push: float = 0.5
    teleport: bool = False


@dataclass(frozen=True)
class Task:
    """Which primitive: of which movable, from which edge point, how many lengths."""

    number: int
    edge: int
    steps: int


class Pusher:
    """Executes primitives; each one is a function of the state that it begins in."""

    def __init__(self, scene: Scene, simulation: Simulation, speeds: PushSpeeds) -> None:
        self._scene, self._simulation, self._speeds = scene, simulation, speeds
        check = _MOTOR_CHECK_S if simulation.has_motors else _CHECK_S
        self._check_every = max(round(check / simulation.control_s), 1)

    def execute(self, reach: Reach, task: Task) -> tuple[Primitive | None, State]:
        """None: the robot did not get to the edge point; the state then is where that ended."""
        simulation, log = self._simulation, ContactLog()
        before, began = reach.state, simulation.steps
        course = self._way(reach, task)
        if course is None:
            return None, before
        simulation.set(before if not self._speeds.teleport else State(course.points[-1], before.movables))
        if not self._speeds.teleport and not drive(simulation, course, log):
            self._settle()
            return None, simulation.read()
        stuck = self._push(task, log)
        self._settle()
        self._step_back(task, log)
        after = simulation.read()
        return self._primitive(task, log, stuck, path_length(course.points), (before, after, began)), after

    def drive_to(self, reach: Reach, end: tuple[float, float]) -> tuple[State, bool]:
        """Drives over the floor only."""
        start = (float(reach.state.robot[0]), float(reach.state.robot[1]))
        points = find_path(reach, start, end)
        if points is None:
            return reach.state, False
        self._simulation.set(reach.state)
        there = drive(self._simulation, Course(points, self._speeds.drive), ContactLog())
        self._settle()
        return self._simulation.read(), there

    def _way(self, reach: Reach, task: Task) -> Course | None:
        """To the edge point; over a point farther out where there is room, so that the robot comes straight in."""
        box, pose = self._scene.movables[task.number], tuple(reach.state.movables[task.number].tolist())
        points, normals = edge_points(box, pose, self._scene.robot_radius)
        edge, before = points[task.edge], points[task.edge] - _APPROACH_M * normals[task.edge]
        start = (float(reach.state.robot[0]), float(reach.state.robot[1]))
        if reach.contains(*before):
            found = find_path(reach, start, (float(before[0]), float(before[1])))
            found = None if found is None else np.concatenate([found, edge[None]])
        else:
            found = find_path(reach, start, (float(edge[0]), float(edge[1])))
        return None if found is None else Course(found, self._speeds.drive)

    def _push(self, task: Task, log: ContactLog) -> bool:
        """True: stuck. Ends also when the robot touches a wall or another movable, which `log` has."""
        simulation, length = self._simulation, task.steps * STEP_M + GAP_M
        contact, inward = (rows[task.edge] for rows in face_points(self._scene.movables[task.number]))
        done, at, still = 0.0, simulation.robot(), StillCheck(self._check_every)
        left = math.ceil((_PATIENCE * self._planned(length) + _PATIENCE_S) / simulation.control_s)
        touched = False
        while done < length and left > 0:
            pose = simulation.pose(task.number)
            turn = rotation(pose[2])
            normal, off = turn @ inward, turn.T @ (at - pose[:2]) - contact
            side = float(off @ np.array((-inward[1], inward[0])))
            aside = turn @ np.array((-inward[1], inward[0])) * np.clip(-_SIDE_GAIN * side, -_SIDE_SPEED, _SIDE_SPEED)
            simulation.move(*(self._speeds.push * normal + aside).tolist())
            left -= 1
            now = simulation.robot()
            done, at = done + float((now - at) @ normal), now
            touches = simulation.touches(task.number)
            log.note(touches)
            touched |= touches.robot_pushed
            if touches.robot_wall or touches.robot_movable:
                return False
            if touched and still.check(simulation.pose(task.number)):
                return True
        return done < length

    def _planned(self, length: float) -> float:
        return length / self._speeds.push + 2 * math.sqrt(length / self._simulation.acceleration)

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
        if self._speeds.teleport:
            return
        yaw, inward = simulation.pose(task.number)[2], face_points(self._scene.movables[task.number])[1][task.edge]
        outward, start, touches = -rotation(yaw) @ inward, simulation.robot(), simulation.touches(None)
        free = not (touches.robot_wall or touches.robot_movable) or touches.robot_movable
        for _ in range(math.ceil(2 * self._planned(_APPROACH_M) / simulation.control_s)):
            if not free or float((simulation.robot() - start) @ outward) >= _APPROACH_M:
                break
            simulation.move(*(self._speeds.push * outward).tolist())
            touches = simulation.touches(task.number)
            log.note(touches)
            free = not (touches.robot_wall or touches.robot_movable)
        self._settle()

    def _primitive(
        self, task: Task, log: ContactLog, stuck: bool, path_m: float, run: tuple[State, State, int]
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
            stuck=stuck,
            sim_steps=self._simulation.steps - began,
        )


class StillCheck:
    """Has an object been still for three checks in succession?"""

    def __init__(self, every: int) -> None:
        self._every, self._calls, self._still = every, 0, 0
        self._last: NDArray[np.float64] | None = None

    def check(self, pose: tuple[float, float, float]) -> bool:
        """One control interval is over."""
        self._calls += 1
        if self._calls % self._every:
            return False
        now = np.array(pose)
        if self._last is not None:
            dx, dy, turned = now - self._last
            moved = math.hypot(dx, dy) >= _STUCK_M or abs(wrapped(float(turned))) >= _STUCK_RAD
            self._still = 0 if moved else self._still + 1
        self._last = now
        return self._still >= _STUCK_CHECKS
