"""One MuJoCo model of a scene: set a state, command the robot, step, read poses and contacts back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from producers.namo.bodies import FreeBoxes, PlanarBoxes, Robot
from producers.namo.mjcf_model import Physics, PhysicsError, compile_scene, compile_text
from protocol.namo.scene import Scene, State

CONTROL_S = 0.02
# Kinds of geoms besides movables, which have their number.
_WALL, _ROBOT, _NOTHING = -1, -2, -3
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
