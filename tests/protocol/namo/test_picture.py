"""What a picture of a scene shows, looked up at places of the world."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.namo import picture
from protocol.namo.picture import Push, View, draw, frame
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront

SCENE = Scene(
    "s",
    (-2, 2, -1, 1),
    (-1.5, -0.6),
    (1.5, 0.6),
    (Box("wall_1", 0, -0.5, 0, 0.05, 0.5),),
    (Box("obstacle_1_movable", 0, 0.5, 0, 0.2, 0.5),),
)
STATE = State.initial(SCENE)
REACH = Wavefront(SCENE).reach(STATE)
PIXELS = 400


def colour(image: object, x: float, y: float) -> tuple[int, ...]:
    """Of the pixel at a point of the world, in a square picture of PIXELS."""
    scale = PIXELS * (1 - 2 * picture._BORDER) / 4
    at = (round(PIXELS / 2 + x * scale), round(PIXELS / 2 - y * scale))
    return tuple(image.getpixel(at))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (-1.5, -0.6, picture.ROBOT),
        (1.5, 0.6, picture.GOAL),
        (0.0, -0.5, picture.WALL),
        (0.0, 0.5, picture.BOX),
        (-1.0, 0.5, picture.REACHED),
        (1.0, -0.5, picture.FLOOR),
        (0.0, 1.5, picture.OUTSIDE),
    ],
)
def test_everything_is_where_the_world_has_it(x: float, y: float, expected: tuple[int, int, int]) -> None:
    assert colour(draw(View(SCENE, STATE, REACH), PIXELS), x, y) == expected


def test_a_push_is_drawn_over_the_scene() -> None:
    push = Push(0, (1.0, -0.2, 0.3))
    with_push = draw(View(SCENE, STATE, REACH, push), PIXELS)
    assert colour(with_push, -0.1, 0.7) == picture.PUSHED
    without = np.asarray(draw(View(SCENE, STATE, REACH), PIXELS), int)
    changed = np.abs(np.asarray(with_push, int) - without).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert columns.max() > 290, "the target is drawn to the right"
    assert rows.max() > 250, "and below"


def test_a_stored_frame_shows_the_state_only_and_always_the_same() -> None:
    one, two = frame(SCENE, STATE, REACH), frame(SCENE, STATE, Wavefront(SCENE).reach(STATE))
    assert one.shape == (224, 224, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, np.asarray(draw(View(SCENE, STATE, REACH))))


def test_a_picture_that_is_not_square_has_the_shape_of_the_scene() -> None:
    image = draw(View(SCENE, STATE, REACH), PIXELS, square=False)
    assert image.size == picture.size(SCENE, PIXELS)
    assert image.width == PIXELS
    assert 0.45 < image.height / image.width < 0.6


def test_a_robot_that_is_shut_in_reaches_nothing() -> None:
    shut = State(np.array([0.0, 0.5]), STATE.movables)
    image = draw(View(SCENE, shut, Wavefront(SCENE).reach(shut)), PIXELS)
    assert colour(image, -1.0, 0.5) == picture.FLOOR
