"""Scenes from MJCF files: the original's as they are, and ours.

MuJoCo compiles the file, and poses are read from the model, so that nested bodies, euler angles in degrees or radians,
defaults and geoms that carry the offset all mean what they mean to MuJoCo.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import mujoco

from producers.namo import boxes
from producers.namo.errors import SceneError
from producers.namo.mjcf_guard import check_mjcf, read_limited
from producers.namo.mjcf_writer import GOAL_TOLERANCE
from protocol.namo.scene import MAX_MOVABLES, MAX_WALLS, Box, Point, Scene

Made = TypeVar("Made", Box, Scene)

ROBOT, GOAL, WALL, MOVABLE = "robot", "goal", "wall", "_movable"
_FALLBACK_GOAL = (-0.5, 1.3)
# How far the z axis of a box may be from upright, as 1 - cos of the angle: about 0.08°.
_TILT = 1e-6
# Rounding takes away what compiling adds, so that a scene that was written and read again is the same scene.
_DIGITS = 12
_DEFAULT_MASS_KG, _DEFAULT_FRICTION = 0.1, 0.5


def read_file(path: Path, name: str) -> tuple[Scene, str]:
    """The scene of a file and the file's text. Raises SceneError."""
    text = read_limited(path)
    return read_mjcf(text, name, str(path)), text


def read_mjcf(text: str, name: str, source: str) -> Scene:
    """The scene that a file's text describes; source: what to call the file in errors. Raises SceneError."""
    check_mjcf(text, source)
    try:
        model = mujoco.MjModel.from_xml_string(text)
    except (ValueError, mujoco.FatalError) as error:
        raise SceneError(f"{source}: expected an MJCF file that MuJoCo compiles; it says: {error}") from error
    return _Reading(model, source).scene(name)


class _Reading:
    """One compiled model."""

    def __init__(self, model: Any, source: str) -> None:
        self._model, self._source = model, source
        self._data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, self._data)

    def scene(self, name: str) -> Scene:
        """All of it."""
        robot, radius = self._robot()
        walls = [self._wall(geom) for geom in self._walls()]
        movables = [self._movable(body) for body in self._movables()]
        for what, found, most in (("walls", walls, MAX_WALLS), ("movables", movables, MAX_MOVABLES)):
            if len(found) > most:
                raise self._error(f"expected at most {most} {what}, found {len(found)}")
        if not walls:
            raise self._error("expected walls (box geoms named wall_*), found none: a scene without bounds")
        try:
            x0, x1, y0, y1 = (_rounded(side) for side in boxes.bounds(boxes.rows(walls)))
            tolerance = self._tolerance()
            goal = self._goal()
            scene = Scene(name, (x0, x1, y0, y1), robot, goal, tuple(walls), tuple(movables), radius, tolerance)
        except ValueError as error:
            raise self._error(str(error)) from error
        return self._within_limits(scene, "scene")

    def _within_limits(self, made: Made, what: str) -> Made:
        try:
            msgspec.json.decode(msgspec.json.encode(made), type=type(made))  # not a number is encoded as null
        except msgspec.ValidationError as error:
            raise self._error(f"{what}: {error}, found {made}") from error
        return made

    def _walls(self) -> list[int]:
        return [geom for geom in range(self._model.ngeom) if self._geom_name(geom).startswith(WALL)]

    def _movables(self) -> list[int]:
        model = self._model
        named = [body for body in range(1, model.nbody) if str(model.body(body).name).endswith(MOVABLE)]
        for body in range(1, model.nbody):
            jointed = model.body_dofnum[body] and body not in named and model.body(body).name != ROBOT
            if jointed:
                raise self._error(
                    f"body {model.body(body).name!r} has joints: expected that only {ROBOT!r} and bodies named "
                    f"*{MOVABLE} can move; rename it, or take its joints away"
                )
        return named

    def _wall(self, geom: int) -> Box:
        name = self._geom_name(geom)
        if self._model.body_weldid[self._model.geom_bodyid[geom]] != 0:
            raise self._error(
                f"wall {name!r}: expected that it stands still, its body {self._body_of(geom)!r} has joints"
            )
        return self._box(geom, name, _DEFAULT_MASS_KG, _DEFAULT_FRICTION)

    def _movable(self, body: int) -> Box:
        model = self._model
        name = str(model.body(body).name)
        geoms = self._geoms(body)
        if len(geoms) != 1 or model.geom_type[geoms[0]] != mujoco.mjtGeom.mjGEOM_BOX:
            kinds = ", ".join(mujoco.mjtGeom(model.geom_type[geom]).name[7:].lower() for geom in geoms) or "no geom"
            raise self._error(f"movable body {name!r}: expected one box geom, found {kinds}")
        mass, sliding = _rounded(model.body_mass[body]), _rounded(max(self._floor(), model.geom_friction[geoms[0], 0]))
        return self._box(geoms[0], name, mass, sliding)

    def _box(self, geom: int, name: str, mass: float, friction: float) -> Box:
        if self._model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_BOX:
            kind = mujoco.mjtGeom(self._model.geom_type[geom]).name[7:].lower()
            raise self._error(f"geom {name!r} of body {self._body_of(geom)!r}: expected a box, found a {kind}")
        turn = self._data.geom_xmat[geom].reshape(3, 3)
        if turn[2, 2] < 1 - _TILT:
            tilted = math.degrees(math.acos(max(-1.0, turn[2, 2])))
            raise self._error(f"box {name!r}: expected that it stands upright, it is tilted by {tilted:.2f}°")
        x, y = (_rounded(value) for value in self._data.geom_xpos[geom][:2])
        yaw = _rounded(math.atan2(turn[1, 0], turn[0, 0]))
        half_x, half_y, half_z = (_rounded(value) for value in self._model.geom_size[geom])
        box = Box(name, x, y, yaw, half_x, half_y, half_z, mass, friction)
        return self._within_limits(box, f"box {name!r}")

    def _robot(self) -> tuple[Point, float]:
        model = self._model
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, ROBOT)
        if body < 0:
            raise self._error(f"expected a body named {ROBOT!r}, found none")
        geoms = [geom for geom in self._geoms(body) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE]
        slides = [model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE for joint in self._joints(body)]
        if len(geoms) != 1 or slides != [True, True]:
            raise self._error(
                f"body {ROBOT!r}: expected one sphere geom and two slide joints, "
                f"found {len(geoms)} spheres and {len(slides)} joints, {sum(slides)} of them slides"
            )
        x, y, _ = self._data.geom_xpos[geoms[0]]
        return (_rounded(x), _rounded(y)), _rounded(model.geom_size[geoms[0], 0])

    def _goal(self) -> Point:
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, GOAL)
        if site < 0:
            return _FALLBACK_GOAL
        x, y, _ = self._data.site_xpos[site]
        return _rounded(x), _rounded(y)

    def _tolerance(self) -> float:
        number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_NUMERIC, GOAL_TOLERANCE)
        default = float(Scene.__struct_defaults__[-1])
        return default if number < 0 else _rounded(self._model.numeric_data[self._model.numeric_adr[number]])

    def _floor(self) -> float:
        """MuJoCo takes the larger friction of two geoms in contact: the least that a box on this floor can have."""
        planes = self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        return float(self._model.geom_friction[planes, 0].max(initial=0.0))

    def _geoms(self, body: int) -> range:
        first = int(self._model.body_geomadr[body])
        return range(first, first + int(self._model.body_geomnum[body])) if first >= 0 else range(0)

    def _joints(self, body: int) -> range:
        first = int(self._model.body_jntadr[body])
        return range(first, first + int(self._model.body_jntnum[body])) if first >= 0 else range(0)

    def _geom_name(self, geom: int) -> str:
        return str(self._model.geom(geom).name)

    def _body_of(self, geom: int) -> str:
        return str(self._model.body(self._model.geom_bodyid[geom]).name)

    def _error(self, what: str) -> SceneError:
        return SceneError(f"{self._source}: {what}")


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS) + 0.0  # no negative zero
