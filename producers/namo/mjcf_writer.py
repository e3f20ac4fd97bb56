"""A scene as an MJCF file with the original's names and layout, so that the original's tools read it too.

Geoms carry the poses, bodies stand at the origin; movables have free joints, the robot two slides.
"""

from __future__ import annotations

import math

from protocol.namo.scene import Box, Scene

ROBOT_MASS_KG = 5.0
# Written into <custom>, as the original has no place for it; without it the reader takes the original's 0.15 m.
GOAL_TOLERANCE = "goal_tolerance"
_DEFAULT_FLOOR_FRICTION = 0.5


def write_mjcf(scene: Scene) -> str:
    """The text of the file. Equal scenes of equal names have equal texts."""
    # The larger friction of two geoms in contact rules: the floor must not hide that of the slipperiest box.
    floor = min((box.friction for box in scene.movables), default=_DEFAULT_FLOOR_FRICTION)
    lines = [
        '<?xml version="1.0" ?>',
        f'<mujoco model="{_text(scene.name)}">',
        '  <option cone="elliptic" integrator="RK4" timestep="0.01"/>',
        "  <custom>",
        f'    <numeric name="{GOAL_TOLERANCE}" data="{_numbers(scene.goal_tolerance)}"/>',
        "  </custom>",
        "  <default>",
        '    <geom density="1"/>',
        "  </default>",
        "  <worldbody>",
        '    <light dir="0 0 -1" directional="true" pos="0 0 1.5"/>',
        f'    <geom condim="4" {_friction(floor)} name="floor" size="0 0 0.05" type="plane"/>',
        '    <body name="walls">',
        *(_wall(box) for box in scene.walls),
        "    </body>",
        *_robot(scene),
        *(line for box in scene.movables for line in _movable(box)),
        f'    <site name="goal" pos="{_numbers(*scene.goal)} 0.0" rgba="0 1 0 0.5" size="0.25 0.25 0.25" '
        'type="sphere"/>',
        "  </worldbody>",
        "  <actuator>",
        *(
            f'    <velocity ctrlrange="-0.5 0.5" forcerange="-20 20" joint="joint_{axis}" kv="50" '
            f'name="actuator_{axis}"/>'
            for axis in "xy"
        ),
        "  </actuator>",
        "</mujoco>",
    ]
    return "\n".join(lines) + "\n"


def _robot(scene: Scene) -> list[str]:
    (x, y), radius = scene.robot, scene.robot_radius
    return [
        '    <body name="robot">',
        '      <joint axis="1 0 0" name="joint_x" pos="0 0 0" type="slide"/>',
        '      <joint axis="0 1 0" name="joint_y" pos="0 0 0" type="slide"/>',
        f'      <geom condim="4" friction="1.0 0.005 0.0001" mass="{_numbers(ROBOT_MASS_KG)}" name="robot" '
        f'pos="{_numbers(x, y, radius)}" rgba="1 0.75 0 1" size="{_numbers(radius, radius, radius)}" type="sphere"/>',
        "    </body>",
    ]


def _movable(box: Box) -> list[str]:
    name = _text(box.name)
    return [
        f'    <body name="{name}">',
        f'      <geom condim="4" euler="0 0 {_numbers(math.degrees(box.yaw))}" {_friction(box.friction)} '
        f'mass="{_numbers(box.mass)}" name="{name}" {_place(box)} rgba="1 1 0 1" type="box"/>',
        '      <joint type="free"/>',
        "    </body>",
    ]


def _wall(box: Box) -> str:
    turned = f'euler="0 0 {_numbers(math.degrees(box.yaw))}" ' if box.yaw else ""
    return f'      <geom condim="4" {turned}name="{_text(box.name)}" {_place(box)} rgba="0.8 0.8 0.8 1" type="box"/>'


def _place(box: Box) -> str:
    return f'pos="{_numbers(box.x, box.y, box.half_z)}" size="{_numbers(box.half_x, box.half_y, box.half_z)}"'


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _friction(sliding: float) -> str:
    return f'friction="{_numbers(sliding)} 0.005 0.001"'


def _numbers(*values: float) -> str:
    """To a picometre: MuJoCo takes no number that is almost, but not quite, 0."""
    return " ".join(repr(round(float(value), 12) + 0.0) for value in values)
