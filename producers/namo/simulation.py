"""One MuJoCo model of a scene: set a state, command the robot, step, read poses and contacts back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from producers.namo.mjcf_model import ROBOT, Physics, PhysicsError, compile_scene, compile_text
from protocol.namo.scene import Scene, State

CONTROL_S = 0.02
# Kinds of geoms besides movables, which have their number.
_WALL, _ROBOT, _NOTHING = -1, -2, -3
_FORCE_TIME_S = 0.05  # a robot with motors closes a velocity error in this time, as far as their force goes
# MuJoCo begins anew by itself when it finds one of these.
_BREAKDOWNS = tuple(getattr(mujoco.mjtWarning, f"mjWARN_BAD{kind}") for kind in ("QPOS", "QVEL", "QACC", "CTRL"))
_REST_SPEED = 1e-3  # [m/s, rad/s]


@dataclass(frozen=True)
class Touches:
    """What touches what in one instant. others: numbers of the movables that the pushed one touches."""

    robot_pushed: bool
    robot_wall: bool
    robot_movable: bool
    pushed_wall: bool
    others: tuple[int, ...]


_NO_TOUCH = Touches(False, False, False, False, ())


class Simulation:
    """Not thread-safe. xml: the original's MJCF, simulated as it is; else the scene is compiled for these physics.

    Raises PhysicsError.
    """

    def __init__(self, scene: Scene, physics: Physics, xml: str | None = None) -> None:
        self._scene = scene
        self._model = compile_text(xml, scene.name) if xml is not None else compile_scene(scene, physics)
        self._data = mujoco.MjData(self._model)
        self._boxes: PlanarBoxes | FreeBoxes
        if xml is None and physics is Physics.PLANAR:
            self._boxes = PlanarBoxes(self._model, len(scene.movables))
        else:
            names = [box.name for box in scene.movables] if xml is not None else None
            self._boxes = FreeBoxes(self._model, scene, names)
        self._robot = Robot(self._model, self._data)
        self._kinds = self._geom_kinds()
        self._nstep = max(round(CONTROL_S / self._model.opt.timestep), 1)
        self.steps = 0

    @property
    def control_s(self) -> float:
        """Between two commands [s]."""
        return float(self._nstep * self._model.opt.timestep)

    @property
    def has_motors(self) -> bool:
        """The robot is driven by forces, not by velocity servos."""
        return self._robot.has_motors

    @property
    def acceleration(self) -> float:
        """The most that the robot can do by itself [m/s²]."""
        return self._robot.acceleration

    @property
    def top_speed(self) -> float:
        """Of the robot, which its servos allow [m/s]."""
        return self._robot.top_speed

    def set(self, state: State) -> None:
        """Everything at rest in this state; nothing of the past is left."""
        mujoco.mj_resetData(self._model, self._data)
        self._robot.place(self._data, state.robot)
        self._boxes.place(self._data, state.movables)
        mujoco.mj_forward(self._model, self._data)

    def read(self) -> State:
        """Where everything is. Raises PhysicsError if the physics broke down since `set`."""
        broken = [str(kind).rpartition("_BAD")[2].lower() for kind in _BREAKDOWNS if self._data.warning[kind].number]
        if broken:
            raise PhysicsError(f"{self._scene.name}: MuJoCo's numbers went bad ({', '.join(broken)}); check the model")
        mujoco.mj_kinematics(self._model, self._data)
        poses = [self._boxes.pose(self._data, number) for number in range(len(self._scene.movables))]
        return State(np.array(self.robot()), np.array(poses, np.float64).reshape(-1, 3))

    def robot(self) -> tuple[float, float]:
        """x, y of its centre [m]."""
        return self._robot.position(self._data)

    def speed(self) -> float:
        """Of the robot [m/s]."""
        return math.hypot(*self._robot.velocity(self._data))

    def pose(self, number: int) -> tuple[float, float, float]:
        """Of a movable: x, y [m], yaw [rad, (-π, π]]; up to one physics step old with free joints."""
        return self._boxes.pose(self._data, number)

    def move(self, vx: float, vy: float) -> None:
        """One control interval with this velocity wanted of the robot [m/s]."""
        self._robot.command(self._data, vx, vy)
        mujoco.mj_step(self._model, self._data, self._nstep)
        self.steps += self._nstep

    def stop(self) -> None:
        """Takes all speed out at once, as the original does between primitives."""
        self._data.qvel[:] = 0
        self._data.qacc_warmstart[:] = 0

    @property
    def at_rest(self) -> bool:
        """Nothing moves faster than 1 mm/s or 1 mrad/s."""
        return bool(np.abs(self._data.qvel).max(initial=0.0) < _REST_SPEED)

    def touches(self, pushed: int | None) -> Touches:
        """Of the robot and of one movable."""
        if not self._data.ncon:
            return _NO_TOUCH
        contact, kinds = self._data.contact, self._kinds
        robot: set[int] = set()
        box: set[int] = set()
        for (one, other), dist in zip(contact.geom.tolist(), contact.dist.tolist(), strict=True):
            if dist > 0:
                continue
            for kind, partner in ((kinds[one], kinds[other]), (kinds[other], kinds[one])):
                if kind == _ROBOT:
                    robot.add(partner)
                elif kind == pushed:
                    box.add(partner)
        return Touches(
            robot_pushed=pushed in robot,
            robot_wall=_WALL in robot,
            robot_movable=any(kind >= 0 and kind != pushed for kind in robot),
            pushed_wall=_WALL in box,
            others=tuple(sorted(kind for kind in box if kind >= 0)),
        )

    def _geom_kinds(self) -> list[int]:
        model = self._model
        kinds = np.full(model.ngeom, _WALL)
        kinds[model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE] = _NOTHING
        kinds[model.geom_bodyid == self._robot.body] = _ROBOT
        for number, body in enumerate(self._boxes.bodies):
            kinds[model.geom_bodyid == body] = number
        return [int(kind) for kind in kinds]


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
