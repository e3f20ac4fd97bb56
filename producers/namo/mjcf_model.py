"""A scene as a MuJoCo model, with nothing in it but what the physics needs.

* planar: boxes on two slides and a hinge with dry friction in the joints (sliding: μmg; turning: μmg · mean radius), no
  gravity, no floor. Cheap, and SE(2) by construction. The two slides are independent, so that a box pushed along a
  diagonal of the world meets up to √2 times the friction of one pushed along an axis.
* free: boxes on free joints that slide on a floor, as in the original's files.

In both the robot is a ball on two slides with velocity actuators; at the boxes' height, it meets them as a disc would.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import mujoco

from producers.namo.primitives import CONTACT_FRICTION, mean_radius
from protocol.errors import HeadraceError
from protocol.namo.scene import Box, Scene

ROBOT = "robot"
FLOOR = "floor"
TIMESTEP_S = 0.005
GRAVITY = 9.81  # [m/s²]
# The robot is as strong as it must be: twice the friction of the heaviest box, if that is more than this. Its mass and
# its gain grow with it, so that it drives in the same way.
ROBOT_MASS_KG = 0.5
ROBOT_FORCE_N = 20.0
_ROBOT_GAIN = 100.0  # of the velocity servo [N·s/m]
PUSH_SPEED = 0.5  # at which a planar box meets μmg [m/s]
_DRY_SHARE = 0.1
# Who meets whom: walls and floor meet only what moves, the robot does not meet the floor.
_WALL = 'contype="1" conaffinity="0"'
_MOVABLE = 'contype="2" conaffinity="11"'
_ROBOT = 'contype="4" conaffinity="3"'
_FLOOR = 'contype="8" conaffinity="0"'
_PLANE_HALF_Z = 0.1


class Physics(StrEnum):
    """How boxes move."""

    PLANAR = "planar"
    FREE = "free"


class PhysicsError(HeadraceError):
    """A model that MuJoCo cannot load, or that has not what the scene names."""


def compile_scene(scene: Scene, physics: Physics) -> Any:
    """The scene's MjModel. Joint coordinates of planar boxes and of the robot are world coordinates."""
    free = physics is Physics.FREE
    strength = max([1.0, *(2 * box.friction * box.mass * GRAVITY / ROBOT_FORCE_N for box in scene.movables)])
    parts = [*_walls(scene, free), *_movables(scene, free), _robot(scene, free, strength)]
    text = f"""<mujoco>
<option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" jacobian="dense"
 gravity="0 0 {-GRAVITY if free else 0}"><flag sleep="enable"/></option>
<worldbody>{"".join(parts)}</worldbody>
<actuator>{"".join(_servo(axis, strength) for axis in "xy")}</actuator>
</mujoco>"""
    return compile_text(text, scene.name)


def compile_text(xml: str, name: str) -> Any:
    """An MJCF text as it is. Raises PhysicsError."""
    try:
        return mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        raise PhysicsError(f"{name}: expected MJCF that MuJoCo {mujoco.__version__} loads: {error}") from error


def _walls(scene: Scene, free: bool) -> Iterator[str]:
    if free:
        yield f'<geom name="{FLOOR}" type="plane" size="0 0 1" friction="0 0 0" condim="3" {_FLOOR}/>'
    for wall in scene.walls:
        place = f'pos="{wall.x!r} {wall.y!r} {wall.half_z if free else 0}" euler="0 0 {_degrees(wall.yaw)}"'
        yield f"<geom {place} {_box(wall, free)} condim='3' friction='0 0 0' {_WALL}/>"


def _movables(scene: Scene, free: bool) -> Iterator[str]:
    for number, box in enumerate(scene.movables):
        geom = f'<geom {_box(box, free)} mass="{box.mass}" friction="{box.friction} 0 0" condim="3" {_MOVABLE}/>'
        joints = f'<freejoint name="movable{number}"/>' if free else "".join(_planar_joints(box))
        yield f'<body name="movable{number}" pos="0 0 {box.half_z if free else 0}">{joints}{geom}</body>'


def _planar_joints(box: Box) -> Iterator[str]:
    force, radius = box.friction * box.mass * GRAVITY, mean_radius(box.half_x, box.half_y)
    loss, damping = _DRY_SHARE * force, (1 - _DRY_SHARE) * force / PUSH_SPEED
    yield f'<joint type="slide" axis="1 0 0" frictionloss="{loss}" damping="{damping}"/>'
    yield f'<joint type="slide" axis="0 1 0" frictionloss="{loss}" damping="{damping}"/>'
    yield f'<joint type="hinge" axis="0 0 1" frictionloss="{loss * radius}" damping="{damping * radius**2}"/>'


def _robot(scene: Scene, free: bool, strength: float) -> str:
    radius = scene.robot_radius
    slides = "".join(
        f'<joint name="{ROBOT}_{axis}" type="slide" axis="{way}"/>' for axis, way in (("x", "1 0 0"), ("y", "0 1 0"))
    )
    weight = f'mass="{strength * ROBOT_MASS_KG}" friction="{CONTACT_FRICTION} 0 0" condim="3"'
    shape = f'type="sphere" size="{radius}" {weight}'
    return f'<body name="{ROBOT}" pos="0 0 {radius if free else 0}">{slides}<geom {shape} {_ROBOT}/></body>'


def _servo(axis: str, strength: float) -> str:
    limits = f'forcerange="{-strength * ROBOT_FORCE_N} {strength * ROBOT_FORCE_N}"'
    return f'<velocity joint="{ROBOT}_{axis}" kv="{strength * _ROBOT_GAIN}" {limits}/>'


def _box(box: Box, free: bool) -> str:
    return f'type="box" size="{box.half_x!r} {box.half_y!r} {box.half_z if free else _PLANE_HALF_Z}"'


def _degrees(yaw: float) -> str:
    return repr(yaw * 180 / 3.141592653589793)
