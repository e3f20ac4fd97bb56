"""The masks against their definition, asked pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.namo.masks import CHANNELS, GOAL_DISC_M, MASK_PIXELS, ROBOT_DISC_M, Frame, View, draw
from protocol.namo.queries import Query
from protocol.namo.scene import Box, Scene, State
from tests.namo_queries import queries

# Pixels whose centre is this near to an edge [m] may be either.
EDGE_M = 1e-5


def depth(box: tuple[float, ...], x: float, y: float) -> float:
    """How far a point lies within a box (x, y, yaw, half_x, half_y); negative outside."""
    bx, by, yaw, half_x, half_y = box
    along = math.cos(yaw) * (x - bx) + math.sin(yaw) * (y - by)
    across = math.cos(yaw) * (y - by) - math.sin(yaw) * (x - bx)
    return min(half_x - abs(along), half_y - abs(across))


def expected(view: View, x: float, y: float) -> dict[str, float]:
    """Channel → how far the point is inside of what the channel shows."""
    scene, state = view.scene, view.state
    movables = [
        depth((*pose, box.half_x, box.half_y), x, y) for box, pose in zip(scene.movables, state.movables, strict=True)
    ]
    walls = [depth((b.x, b.y, b.yaw, b.half_x, b.half_y), x, y) for b in scene.walls]
    return {
        "robot": ROBOT_DISC_M - math.hypot(x - state.robot[0], y - state.robot[1]),
        "goal": GOAL_DISC_M - math.hypot(x - scene.goal[0], y - scene.goal[1]),
        "movable": max(movables, default=-math.inf),
        "static": max(walls, default=-math.inf),
        "object": -math.inf if view.selected is None else movables[view.selected],
    }


def check(view: View, masks: np.ndarray, pixels: list[tuple[int, int]]) -> None:
    frame = Frame.of(view.scene.bounds)
    for row, column in pixels:
        x, y = frame.x0 + (column + 0.5) * frame.m_per_px, frame.y0 + (row + 0.5) * frame.m_per_px
        for channel, inside in expected(view, x, y).items():
            if abs(inside) > EDGE_M:
                assert masks[CHANNELS.index(channel), row, column] == (inside > 0), (channel, row, column)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(queries(), min_size=1, max_size=3), st.data())
def test_masks(asked: list[Query], data: st.DataObject) -> None:
    views = [query.view(data.draw(st.sampled_from([None, *query.reachable]))) for query in asked]
    masks = draw(views)
    pixels = [(row, column) for row in range(0, MASK_PIXELS, 3) for column in range(row % 3, MASK_PIXELS, 4)]
    for view, found in zip(views, masks, strict=True):
        check(view, found, pixels)
        bits = np.unpackbits(np.frombuffer(view.reached, np.uint8)).reshape(MASK_PIXELS, MASK_PIXELS)
        np.testing.assert_array_equal(found[CHANNELS.index("reachable")], bits)


def room(*movables: Box, walls: tuple[Box, ...] = ()) -> View:
    scene = Scene("room", (-2.0, 2.0, -1.0, 1.0), (0.0, 0.0), (1.0, 0.0), walls, movables)
    return View(scene, State.initial(scene), bytes(MASK_PIXELS * MASK_PIXELS // 8), 0 if movables else None)


def test_boxes_along_the_axes_and_beyond_the_picture() -> None:
    everything = [(row, column) for row in range(MASK_PIXELS) for column in range(MASK_PIXELS)]
    quarter = math.pi / 2
    for yaw in (0.0, 1e-12, quarter, -quarter, math.pi, 1e-7, quarter + 1e-7):
        for x in (-2.0, 0.3, 2.5, 40.0):
            view = room(Box("a", x, 0.2, yaw, 0.41, 0.13))
            check(view, draw([view])[0], everything)


def test_a_scene_with_nothing_in_it() -> None:
    empty, full = room(), room(Box("a", 0, 0, 0, 0.5, 0.5), walls=(Box("w", 1, 0, 1, 0.2, 0.2),))
    masks = draw([empty, full])
    assert not masks[0, 2:].any()
    assert masks[1, 2].any()
    assert masks[1, 3].any()
    assert draw([]).shape == (0, len(CHANNELS), MASK_PIXELS, MASK_PIXELS)
    assert not draw([empty])[0, 2:].any()


def test_a_thousand_walls() -> None:
    rng = np.random.default_rng(0)
    walls = tuple(Box(f"w{i}", *rng.uniform(-1, 1, 3).tolist(), 0.02, 0.02) for i in range(1000))
    view = room(walls=walls)
    pixels = [(row, column) for row in range(16, 48, 8) for column in range(0, MASK_PIXELS, 8)]
    check(view, draw([view])[0], pixels)
