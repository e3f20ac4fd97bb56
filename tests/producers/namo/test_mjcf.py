"""Scenes from MJCF: the original's files as they are, ours back exactly, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.namo import mjcf_guard
from producers.namo.generator.difficulty import DIFFICULTIES
from producers.namo.generator.templates import TEMPLATES
from producers.namo.mjcf_reader import read_file, read_mjcf
from producers.namo.mjcf_writer import write_mjcf
from producers.namo.scenes import GeneratedScenes, SceneError
from protocol.namo.scene import Box, Scene

ORIGINAL = Path(__file__).parent / "data" / "env_config_1a.xml"
TEXT = ORIGINAL.read_text()


def _read(text: str) -> Scene:
    return read_mjcf(text, "", "set1/a.xml")


def test_the_originals_file_is_read_as_it_is() -> None:
    scene, text = read_file(ORIGINAL, "env_config_1a")
    assert text == TEXT
    assert (scene.robot, scene.robot_radius) == ((-1.25, -0.75), 0.15)
    assert (scene.goal, scene.goal_tolerance) == ((3.25, 1.5), 0.15)
    one, two = scene.movables
    assert one.name == "obstacle_1_movable"
    assert (one.x, one.y, one.half_x, one.half_y, one.half_z, one.mass) == (2.5, 1.0, 0.4, 0.25, 0.3, 0.1)
    assert one.yaw == pytest.approx(math.radians(120), abs=1e-9)
    assert one.friction == 0.5, "the floor's friction is larger than the box's own, which is 0"
    # A body that is turned by 30° and a geom by 300° in it.
    assert two.yaw == pytest.approx(math.radians(-30), abs=1e-9)
    assert (two.x, two.y) == pytest.approx(
        (1 - 0.2 * math.sin(math.radians(30)), -1 + 0.2 * math.cos(math.radians(30)))
    )
    assert (two.mass, two.friction) == pytest.approx((1.0 * 0.6 * 1.0 * 0.4, 0.8))


def test_walls_in_turned_bodies_and_the_bounds_round_them() -> None:
    scene = _read(TEXT)
    by_name = {wall.name: wall for wall in scene.walls}
    assert list(by_name) == [f"wall_{number}" for number in range(1, 6)]
    first = by_name["wall_1"]
    assert (first.x, first.y, first.half_x, first.half_y) == pytest.approx((-2, 0, 2, 0.05))
    assert abs(first.yaw) == pytest.approx(math.pi / 2)
    inner = by_name["wall_5"]
    turned = math.radians(135)
    assert inner.yaw == pytest.approx(turned)
    assert (inner.x, inner.y) == pytest.approx((0.5 + 0.2 * math.cos(turned), 0.2 * math.sin(turned)))
    assert scene.bounds == pytest.approx((-2.05, 4.05, -2.05, 2.05))


def test_without_a_goal_site_the_originals_fallback_holds() -> None:
    assert _read(TEXT.replace('name="goal"', 'name="start"')).goal == (-0.5, 1.3)


def test_radians_and_other_defaults_mean_what_they_mean_to_mujoco() -> None:
    radians = TEXT.replace("<option ", '<compiler angle="radian"/><option ', 1)
    assert _read(radians).movables[0].yaw == pytest.approx(math.remainder(120, math.tau))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_generated_scene_is_the_same_after_writing_and_reading(template: str, difficulty: str) -> None:
    scene = GeneratedScenes(template, difficulty, 2).load(0).scene
    again = read_mjcf(write_mjcf(scene), scene.name, "")
    assert again == scene
    assert again.digest() == scene.digest()


# MuJoCo takes a frame that is a micrometre from its body's for the body's own.
_NUMBER = st.floats(-50, 50).map(lambda value: round(value, 5))
_HALF = st.floats(0.01, 20)


@st.composite
def _scenes(draw: st.DrawFn) -> Scene:
    def box(name: str) -> Box:
        yaw = round(draw(st.floats(-3.1, 3.1)), 5)
        place = (draw(_NUMBER), draw(_NUMBER), yaw, draw(_HALF), draw(_HALF), draw(_HALF))
        return Box(name, *place, draw(st.floats(0.01, 100)), draw(st.floats(0, 10)))

    walls = [msgspec.structs.replace(box(f"wall_{n}"), mass=0.1, friction=0.5) for n in range(draw(st.integers(1, 4)))]
    movables = [box(f"obstacle_{n}_movable") for n in range(draw(st.integers(0, 4)))]
    points = [(draw(_NUMBER), draw(_NUMBER)) for _ in range(2)]
    bounds = read_bounds(walls)
    return Scene('a <b> & "c"', bounds, *points, tuple(walls), tuple(movables), draw(_HALF) / 10, draw(_HALF) / 10)


def read_bounds(walls: list[Box]) -> tuple[float, float, float, float]:
    """Corner by corner, by hand."""
    x, y = [], []
    for wall in walls:
        for a in (-wall.half_x, wall.half_x):
            for b in (-wall.half_y, wall.half_y):
                x.append(wall.x + a * math.cos(wall.yaw) - b * math.sin(wall.yaw))
                y.append(wall.y + a * math.sin(wall.yaw) + b * math.cos(wall.yaw))
    return min(x), max(x), min(y), max(y)


@settings(max_examples=25, deadline=None)
@given(_scenes())
def test_any_scene_comes_back_to_a_nanometre(scene: Scene) -> None:
    again = read_mjcf(write_mjcf(scene), scene.name, "")
    assert [box.name for box in again.movables] == [box.name for box in scene.movables]
    for found, made in zip((*again.walls, *again.movables), (*scene.walls, *scene.movables), strict=True):
        assert np.allclose(msgspec.structs.astuple(found)[1:], msgspec.structs.astuple(made)[1:], rtol=0, atol=1e-9)
    for found_place, made_place in ((again.bounds, scene.bounds), (again.robot, scene.robot), (again.goal, scene.goal)):
        assert np.allclose(found_place, made_place, rtol=0, atol=1e-9)
    assert again.goal_tolerance == pytest.approx(scene.goal_tolerance, abs=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('euler="0 0 120"', 'euler="10 0 120"', r"box 'obstacle_1_movable': .* tilted by 10\.00°"),
        ('size="0.4 0.25 0.3" type="box"', 'size="0.4" type="sphere"', "expected one box geom, found sphere"),
        (
            'type="box"/>\n      <joint type="free"/>',
            'type="box"/><geom size="0.1" type="sphere"/><joint type="free"/>',
            "'obstacle_1_movable': expected one box geom, found box, sphere",
        ),
        ('size="0.6 0.05 0.3" type="box"', 'size="0.6 0.3" type="cylinder"', "a box, found a cylinder"),
        ('quat="0.92', 'euler="3 0 0" quat="0.92', "expected an MJCF file that MuJoCo compiles"),
        ('<body name="robot">', '<body name="car">', "expected a body named 'robot', found none"),
        ('size="0.15 0.15 0.15" type="sphere"', 'size="0.15 0.15 0.15" type="box"', "'robot': expected one sphere"),
        ('type="slide"/>\n      <geom', 'type="hinge"/><geom', "2 joints, 1 of them slides"),
        ('<body name="inner"', '<body name="car"><joint/><geom size="1"/></body><body name="inner"', "'car' has"),
        ('pos="2.5 1.0 0.3"', 'pos="nan 1.0 0.3"', "set1/a.xml: .*(float|compiles)"),
        ('pos="2.5 1.0 0.3"', 'pos="2e5 1.0 0.3"', r"obstacle_1_movable.*10000"),
        ("wall_", "fence_", "expected walls"),
        ("</mujoco>", "", "may be half written"),
        ("mujoco", "robot", "expected the root element <mujoco>, found <robot>"),
        ("<worldbody>", '<include file="/etc/passwd"/><worldbody>', "one self-contained file, found <include>"),
        ("<asset>", '<asset><mesh name="m" file="../../m.obj"/>', "one self-contained file, found <mesh file="),
        ("<asset>", '<asset><texture name="t" type="cube" fileup="u.png"/>', "found <texture fileup="),
        ("<worldbody>", '<worldbody><replicate count="9999999"><body/></replicate>', "found <replicate>"),
        ("<worldbody>", '<size memory="900G"/><worldbody>', "expected no <size>"),
        ('height="300"', 'height="3000000"', "expected textures of at most"),
        ("<mujoco model", '<!DOCTYPE a [<!ENTITY b "c">]><mujoco model', "document type declaration"),
    ],
)  # fmt: skip
def test_what_is_no_scene_is_refused_in_one_clear_error(old: str, new: str, said: str) -> None:
    assert old in TEXT
    broken = TEXT.replace(old, new) if old in ("wall_", "mujoco") else TEXT.replace(old, new, 1)
    with pytest.raises(SceneError, match=said):
        _read(broken)


def test_too_many_walls_and_movables_are_refused() -> None:
    wall = '<geom name="wall_x{}" pos="0 0 0" size="1 1 1" type="box"/>'
    many = "".join(wall.format(number) for number in range(1020))
    with pytest.raises(SceneError, match="expected at most 1024 walls, found 1025"):
        _read(TEXT.replace("<worldbody>", f"<worldbody>{many}"))
    body = '<body name="x{}_movable"><geom size="1 1 1" type="box"/><freejoint/></body>'
    many = "".join(body.format(number) for number in range(63))
    with pytest.raises(SceneError, match="expected at most 64 movables, found 65"):
        _read(TEXT.replace("<worldbody>", f"<worldbody>{many}"))


def test_a_file_that_cannot_be_one_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    missing, large, binary = (tmp_path / name for name in ("missing.xml", "large.xml", "binary.xml"))
    with pytest.raises(SceneError, match=r"missing\.xml: expected an MJCF file, found nothing"):
        read_file(missing, "")
    with large.open("wb") as file:
        file.truncate(mjcf_guard.MAX_BYTES + 1)
    with pytest.raises(SceneError, match=r"large\.xml: expected at most 16 MiB, found 16777217 bytes"):
        read_file(large, "")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match=r"binary\.xml: cannot read it as UTF-8"):
        read_file(binary, "")
    with pytest.raises(SceneError, match="expected an MJCF file, found no file"):
        read_file(tmp_path, "")
