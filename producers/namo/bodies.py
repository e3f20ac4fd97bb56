"""The parts of a model that move, and where their coordinates lie: the robot, and boxes on planar or on free joints."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from producers.namo.mjcf_model import ROBOT, PhysicsError
from protocol.namo.scene import Scene

_FORCE_TIME_S = 0.05  # a robot with motors closes a velocity error in this time, as far as their force goes


class Robot:
    """Two slide joints with an actuator each."""

    def __init__(self, model: Any, data: Any) -> None:
        self.body = body_of(model, ROBOT)
        joints = np.flatnonzero(model.jnt_bodyid == self.body)
        axes = [tuple(np.round(model.jnt_axis[joint], 6)) for joint in joints]
        if sorted(axes) != [(0, 1, 0), (1, 0, 0)] or set(model.jnt_type[joints]) != {mujoco.mjtJoint.mjJNT_SLIDE}:
            raise PhysicsError(f"the robot needs slide joints along x and y, found joints along {axes}")
        joints = joints[np.argsort(axes, axis=0)[::-1, 0]]  # x, then y
        self._qpos, self._dofs = model.jnt_qposadr[joints].tolist(), model.jnt_dofadr[joints].tolist()
        self._actuators = [self._actuator(model, joint) for joint in joints]
        mujoco.mj_forward(model, data)
        geom = self._ball(model)
        self._origin = [float(data.geom_xpos[geom, axis] - data.qpos[at]) for axis, at in enumerate(self._qpos)]
        self._mass = float(model.body_subtreemass[self.body])
        self.has_motors = bool(model.actuator_biastype[self._actuators[0]] == mujoco.mjtBias.mjBIAS_NONE)
        self.acceleration = self._strongest(model) / self._mass
        low, high = model.actuator_ctrlrange[self._actuators[0]]
        limited = bool(model.actuator_ctrllimited[self._actuators[0]])
        self._limit = float(min(-low, high)) if limited else math.inf
        gear = float(model.actuator_gear[self._actuators[0], 0])
        gain = float(model.actuator_gainprm[self._actuators[0], 0])
        # What an actuator wants for each newton, or for each metre a second.
        self._per_unit = 1 / (gear * gain) if self.has_motors else gear
        self.top_speed = math.inf if self.has_motors else self._limit / gear

    def place(self, data: Any, at: NDArray[np.float64]) -> None:
        """Puts its centre there [m]."""
        for place, value, origin in zip(self._qpos, at.tolist(), self._origin, strict=True):
            data.qpos[place] = value - origin

    def position(self, data: Any) -> tuple[float, float]:
        """x, y of its centre [m]."""
        qpos, (x, y), (x0, y0) = data.qpos, self._qpos, self._origin
        return float(qpos[x]) + x0, float(qpos[y]) + y0

    def velocity(self, data: Any) -> tuple[float, float]:
        """vx, vy [m/s]."""
        x, y = self._dofs
        return float(data.qvel[x]), float(data.qvel[y])

    def command(self, data: Any, vx: float, vy: float) -> None:
        """A velocity for servos; for motors the force that brings it about soon [m/s]."""
        wanted = (vx, vy)
        if self.has_motors:
            per_speed = self._mass / _FORCE_TIME_S
            now_x, now_y = self.velocity(data)
            wanted = ((vx - now_x) * per_speed, (vy - now_y) * per_speed)
        # Both alike, so that the direction stays.
        largest = max(abs(wanted[0]), abs(wanted[1])) * self._per_unit
        share = self._per_unit * min(1.0, self._limit / max(largest, 1e-9))
        for actuator, value in zip(self._actuators, wanted, strict=True):
            data.ctrl[actuator] = value * share

    def _ball(self, model: Any) -> int:
        balls = (model.geom_bodyid == self.body) & (model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE)
        if balls.sum() != 1:
            raise PhysicsError(f"the robot needs one sphere, found {balls.sum()}")
        return int(np.flatnonzero(balls)[0])

    def _actuator(self, model: Any, joint: int) -> int:
        found = np.flatnonzero(model.actuator_trnid[:, 0] == joint)
        if len(found) != 1:
            raise PhysicsError(f"the robot needs one actuator for each of its two joints, found {len(found)}")
        return int(found[0])

    def _strongest(self, model: Any) -> float:
        first = self._actuators[0]
        gear, gain = float(model.actuator_gear[first, 0]), float(model.actuator_gainprm[first, 0])
        if model.actuator_forcelimited[first]:
            return gear * float(model.actuator_forcerange[first, 1])
        if model.actuator_ctrllimited[first]:
            return gear * gain * float(model.actuator_ctrlrange[first, 1])
        raise PhysicsError("the robot's actuators need a ctrlrange or a forcerange, found neither")


class PlanarBoxes:
    """Boxes whose joint coordinates are their poses: three for each, in the scene's order, before the robot's."""

    def __init__(self, model: Any, count: int) -> None:
        self._count = count
        self.bodies = [body_of(model, f"movable{number}") for number in range(count)]

    def place(self, data: Any, poses: NDArray[np.float64]) -> None:
        """float64[M, 3]."""
        data.qpos[: 3 * self._count] = poses.ravel()

    def pose(self, data: Any, number: int) -> tuple[float, float, float]:
        """Of one."""
        x, y, yaw = data.qpos[3 * number : 3 * number + 3].tolist()
        return x, y, wrapped(yaw)


class FreeBoxes:
    """Boxes on free joints; their geom, which may lie anywhere in their body, tells their pose."""

    def __init__(self, model: Any, scene: Scene, names: list[str] | None) -> None:
        names = names if names is not None else [f"movable{number}" for number in range(len(scene.movables))]
        self.bodies = [body_of(model, name) for name in names]
        self._qpos: list[int] = []
        self._geoms: list[int] = []
        self._at: list[NDArray[np.float64]] = []
        self._turn: list[NDArray[np.float64]] = []
        self._heights: list[float] = []
        start = mujoco.MjData(model)
        mujoco.mj_kinematics(model, start)
        for body, box in zip(self.bodies, scene.movables, strict=True):
            joint = int(model.body_jntadr[body])
            if joint < 0 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
                raise PhysicsError(f"{scene.name}: {box.name} needs a free joint to be pushed")
            geom = int(model.body_geomadr[body])
            self._qpos.append(int(model.jnt_qposadr[joint]))
            self._geoms.append(geom)
            self._at.append(model.geom_pos[geom].copy())
            self._turn.append(model.geom_quat[geom].copy())
            self._heights.append(float(start.geom_xpos[geom, 2]))

    def place(self, data: Any, poses: NDArray[np.float64]) -> None:
        """Upright, at their height, float64[M, 3]."""
        for number, (x, y, yaw) in enumerate(poses.tolist()):
            body, inverse, offset = np.empty(4), np.empty(4), np.empty(3)
            mujoco.mju_negQuat(inverse, self._turn[number])
            mujoco.mju_mulQuat(body, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]), inverse)
            mujoco.mju_rotVecQuat(offset, self._at[number], body)
            at = self._qpos[number]
            data.qpos[at : at + 3] = np.array((x, y, self._heights[number])) - offset
            data.qpos[at + 3 : at + 7] = body

    def pose(self, data: Any, number: int) -> tuple[float, float, float]:
        """Of one."""
        geom = self._geoms[number]
        x, y, _ = data.geom_xpos[geom].tolist()
        return x, y, float(np.arctan2(data.geom_xmat[geom, 3], data.geom_xmat[geom, 0]))


def body_of(model: Any, name: str) -> int:
    """The body of this name, or the one that has the geom of this name. Raises PhysicsError."""
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
        body = int(model.geom_bodyid[geom]) if geom >= 0 else -1
    if body < 0:
        raise PhysicsError(f"expected a body or a geom named {name}, found none")
    return int(body)


def wrapped(yaw: float) -> float:
    """To (-π, π] [rad]; unchanged if it is there already."""
    return yaw if -np.pi < yaw <= np.pi else float(np.pi - (np.pi - yaw) % (2 * np.pi))
