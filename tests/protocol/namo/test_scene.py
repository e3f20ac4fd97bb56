"""Scenes: what makes two of them equal, and what cannot be one."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from protocol.namo.scene import MAX_MOVABLES, Box, Scene, State
from tests.protocol.namo.random_scenes import random_scene

BOX = Box("obstacle_0_movable", 0.1, 0.2, 0.3, 0.4, 0.5)
SCENE = Scene("a scene", (-1, 1, -2, 2), (0.5, 0.5), (-0.5, 1.0), (Box("wall_0", 0, 0, 0, 1, 0.1),), (BOX,))


@pytest.mark.parametrize("seed", range(20))
def test_a_scene_survives_json_and_messagepack(seed: int) -> None:
    scene = random_scene(seed)
    for codec in (msgspec.json, msgspec.msgpack):
        again = codec.decode(codec.encode(scene), type=Scene)
        assert again == scene
        assert again.digest() == scene.digest()


def test_the_digest_is_of_the_content() -> None:
    assert msgspec.structs.replace(SCENE, name="other").digest() == SCENE.digest()
    for change in ({"goal": (0.0, 1.0)}, {"robot_radius": 0.1}, {"movables": ()}, {"bounds": (-1, 1, -2, 2.5)}):
        assert msgspec.structs.replace(SCENE, **change).digest() != SCENE.digest()
    moved = msgspec.structs.replace(BOX, yaw=0.3000001)
    assert msgspec.structs.replace(SCENE, movables=(moved,)).digest() != SCENE.digest()


def test_equal_numbers_give_equal_digests() -> None:
    whole = Scene("s", (-1, 1, -2, 2), (0, 0), (1, 0), (), ())
    real = Scene("s", (-1.0, 1.0, -2.0, 2.0), (0.0, -0.0), (1.0, 0.0), (), ())
    assert whole == real
    assert whole.digest() == real.digest()


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "import sys, msgspec; from protocol.namo.scene import Scene;"
        "print(msgspec.json.decode(sys.stdin.read(), type=Scene).digest())"
    )
    text = msgspec.json.encode(SCENE).decode()
    other = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == SCENE.digest()
    assert SCENE.digest() == "4b0eac7caea63f9ca1bd496fb38601d7ad1d53f9dce55e1803d878f8d7bb81d8"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bounds": (1, -1, -2, 2)}, "x0 < x1"),
        ({"bounds": (-1, 1, 2, 2)}, "y0 < y1"),
        ({"movables": (BOX, BOX)}, "found twice: obstacle_0_movable"),
        ({"movables": (msgspec.structs.replace(BOX, name="wall_0"),)}, "found twice: wall_0"),
        ({"movables": (msgspec.structs.replace(BOX, half_x=0.0),)}, "> 0"),
        ({"movables": (msgspec.structs.replace(BOX, friction=-0.1),)}, ">= 0"),
        ({"robot": (1e5, 0)}, "<= 10000"),
        ({"robot_radius": -1.0}, "> 0"),
        (
            {"movables": tuple(msgspec.structs.replace(BOX, name=f"m{n}") for n in range(MAX_MOVABLES + 1))},
            "length <= 64",
        ),
    ],
)
def test_what_cannot_be_a_scene_is_refused(change: dict[str, object], why: str) -> None:
    fields = {**msgspec.to_builtins(SCENE), **{key: msgspec.to_builtins(value) for key, value in change.items()}}
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.json.decode(msgspec.json.encode(fields), type=Scene)


def test_a_state_begins_as_the_scene_says() -> None:
    state = State.initial(SCENE)
    np.testing.assert_array_equal(state.robot, [0.5, 0.5])
    np.testing.assert_array_equal(state.movables, [[0.1, 0.2, 0.3]])
    assert state.key == State(state.robot.copy(), state.movables.copy()).key
    assert state.key != State(state.robot, state.movables + 1e-12).key
    empty = State.initial(msgspec.structs.replace(SCENE, movables=()))
    assert empty.movables.shape == (0, 3)


def test_movables_are_found_by_name() -> None:
    assert SCENE.place("obstacle_0_movable") == 0
    with pytest.raises(KeyError):
        SCENE.place("wall_0")
