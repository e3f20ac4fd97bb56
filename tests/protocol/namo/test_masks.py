"""Masks against a naive test of every pixel's centre, and the reachable channel against the wavefront."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protocol.namo.masks import CHANNELS, GOAL_DISC_M, MASK_PIXELS, REACHED_BYTES, ROBOT_DISC_M, Frame, View, draw
from protocol.namo.masks import reached_bits as bits_of
from protocol.namo.scene import Box, State
from protocol.namo.wavefront import Wavefront
from tests.protocol.namo.random_scenes import random_scene

EMPTY = bytes(REACHED_BYTES)
EDGE = 1e-4  # float32 may decide a pixel this near to a shape's border either way [m]


def centre(frame: Frame, row: int, column: int) -> tuple[float, float]:
    """Of a pixel, in the world."""
    return frame.x0 + (column + 0.5) * frame.m_per_px, frame.y0 + (row + 0.5) * frame.m_per_px


def depth(box: Box, pose: tuple[float, float, float], x: float, y: float) -> float:
    """How far a point is inside a box [m]; negative: outside."""
    along = (x - pose[0]) * math.cos(pose[2]) + (y - pose[1]) * math.sin(pose[2])
    across = (y - pose[1]) * math.cos(pose[2]) - (x - pose[0]) * math.sin(pose[2])
    return min(box.half_x - abs(along), box.half_y - abs(across))


@pytest.mark.parametrize("seed", range(8))
def test_every_channel_is_what_a_naive_test_of_each_pixel_says(seed: int) -> None:
    scene, state = random_scene(seed), State.initial(random_scene(seed))
    selected = seed % len(scene.movables) if scene.movables else None
    masks = draw([View(scene, state, EMPTY, selected)])[0]
    frame = Frame.of(scene.bounds)
    movables = [(box, (box.x, box.y, box.yaw)) for box in scene.movables]
    walls = [(box, (box.x, box.y, box.yaw)) for box in scene.walls]
    chosen = [movables[selected]] if selected is not None else []
    for row, column in np.ndindex(MASK_PIXELS, MASK_PIXELS):
        x, y = centre(frame, row, column)
        discs = (("robot", scene.robot, ROBOT_DISC_M), ("goal", scene.goal, GOAL_DISC_M))
        expected = {name: radius - math.dist((x, y), at) for name, at, radius in discs}
        for channel, boxes in (("movable", movables), ("static", walls), ("object", chosen)):
            expected[channel] = max((depth(box, pose, x, y) for box, pose in boxes), default=-1.0)
        for channel, inside in expected.items():
            if abs(inside) > EDGE:
                assert masks[CHANNELS.index(channel), row, column] == (inside > 0), (channel, row, column)


def test_a_batch_is_its_views_one_by_one() -> None:
    views = []
    for seed in range(30):
        scene = random_scene(seed)
        reached = bits_of(Wavefront(scene).reach(State.initial(scene)))
        views.append(View(scene, State.initial(scene), reached, 0 if scene.movables and seed % 2 else None))
    together = draw(views)
    assert together.shape == (30, len(CHANNELS), MASK_PIXELS, MASK_PIXELS)
    for number, view in enumerate(views):
        np.testing.assert_array_equal(together[number], draw([view])[0])
    assert draw([]).shape == (0, len(CHANNELS), MASK_PIXELS, MASK_PIXELS)


@pytest.mark.parametrize("seed", range(20))
def test_the_reachable_channel_is_the_wavefronts_answer_at_each_pixel(seed: int) -> None:
    scene = random_scene(seed)
    state = State.initial(scene)
    reach = Wavefront(scene).reach(state)
    bits = bits_of(reach)
    assert len(bits) == REACHED_BYTES
    mask = draw([View(scene, state, bits)])[0, CHANNELS.index("reachable")]
    assert np.packbits(mask).tobytes() == bits
    frame = Frame.of(scene.bounds)
    expected = [reach.contains(*centre(frame, *at)) for at in np.ndindex(MASK_PIXELS, MASK_PIXELS)]
    # Pixels whose centre lies on a border of cells may fall on either side in float32.
    assert np.count_nonzero(mask.ravel() != np.array(expected)) <= MASK_PIXELS // 8


def test_the_bounds_fill_the_mask_at_one_scale_and_y_goes_up() -> None:
    frame = Frame.of((-1.0, 3.0, 0.0, 2.0))
    assert frame.m_per_px == 4.0 / MASK_PIXELS
    x, y = frame.axes()
    assert (x[0] + x[-1], y[0] + y[-1]) == pytest.approx((2.0, 2.0))
    assert y[0] < y[-1]
    assert x[-1] - x[0] == pytest.approx(4.0 - frame.m_per_px)


def test_two_scenes_of_one_name_do_not_share_their_walls() -> None:
    one, other = (random_scene(seed) for seed in (1, 3))
    assert one.walls != other.walls
    alone = draw([View(other, State.initial(other), EMPTY)])
    both = draw([View(scene, State.initial(scene), EMPTY) for scene in (one, other)])
    np.testing.assert_array_equal(both[1], alone[0])
    assert (both[0, CHANNELS.index("static")] != both[1, CHANNELS.index("static")]).any()
