"""Turning an example is the same as turning the scene and drawing that."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from protocol.namo.masks import CHANNELS, Frame, View, draw, reached_bits
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront
from tests.protocol.namo.random_scenes import random_scene
from tests.trainer.namo.searches import Push, search_of
from trainer.namo import symmetry
from trainer.namo.batches import goal_batch
from trainer.namo.examples import goal_examples, unpack
from trainer.namo.places import all_places

SCENES = [seed for seed in range(12) if random_scene(seed).movables]


def turned_pose(pose: tuple[float, float, float], centre: np.ndarray, number: int) -> tuple[float, float, float]:
    x, y = symmetry.matrix(number) @ (np.array(pose[:2]) - centre) + centre
    ahead = symmetry.matrix(number) @ (math.cos(pose[2]), math.sin(pose[2]))
    return float(x), float(y), math.atan2(ahead[1], ahead[0])


def turned(scene: Scene, number: int) -> Scene:
    """The scene itself, turned round the middle of its picture."""
    frame = Frame.of(scene.bounds)
    centre = np.array((frame.x0, frame.y0)) + 32 * frame.m_per_px

    def box(old: Box) -> Box:
        return Box(old.name, *turned_pose((old.x, old.y, old.yaw), centre, number), old.half_x, old.half_y)

    def point(old: tuple[float, float]) -> tuple[float, float]:
        return turned_pose((*old, 0.0), centre, number)[:2]

    x0, x1, y0, y1 = scene.bounds
    (xa, ya), (xb, yb) = point((x0, y0)), point((x1, y1))
    bounds = (min(xa, xb), max(xa, xb), min(ya, yb), max(ya, yb))
    walls, movables = tuple(map(box, scene.walls)), tuple(map(box, scene.movables))
    robot, goal = point(scene.robot), point(scene.goal)
    return Scene(scene.name, bounds, robot, goal, walls, movables, scene.robot_radius)


def view(scene: Scene) -> View:
    state = State.initial(scene)
    return View(scene, state, reached_bits(Wavefront(scene).reach(state)), 0)


@pytest.mark.parametrize("number", range(symmetry.SYMMETRIES))
def test_masks_and_places_are_those_of_the_turned_scene(number: int) -> None:
    reach_off = []
    for seed in SCENES:
        before, after = view(random_scene(seed)), view(turned(random_scene(seed), number))
        masks = symmetry.of_masks(draw([before]), number)
        # A pixel whose centre lies on an edge may fall to either side.
        off = (masks != draw([after])).mean(axis=(0, 2, 3))
        reach_off.append(off[CHANNELS.index("reachable")])
        for channel, share in zip(CHANNELS, off, strict=True):
            assert share < 0.001 or channel == "reachable", (seed, channel)
        most = len(before.scene.movables)
        one, other = all_places([before], 1, most + 1), all_places([after], 1, most + 1)
        np.testing.assert_allclose(symmetry.of_numbers(one.numbers, number), other.numbers, atol=1e-5)
        points, wanted = symmetry.of_points(one.points, number), other.points
        for movable in range(most):  # the mean over them counts, so that their order does not matter
            a, b = (rows[0, movable][np.lexsort(rows[0, movable].round(4).T)] for rows in (points, wanted))
            np.testing.assert_allclose(a, b, atol=1e-3)
    # The wavefront's cells begin at the bounds' lower left corner, and so lie differently when turned: the edge of the
    # region moves by a pixel, and now and then a passage that is just wide enough opens or closes.
    assert np.median(reach_off) < 0.02


@pytest.mark.parametrize("number", range(symmetry.SYMMETRIES))
def test_a_turned_move_ends_where_the_turned_end_is(number: int) -> None:
    start, move = (0.3, -0.2, 0.4), np.array((0.5, 0.1, 0.7), np.float32)
    end = (start[0] + 0.5, start[1] + 0.1, start[2] + 0.7)
    here = np.zeros(2)
    x, y, yaw = turned_pose(start, here, number)
    found = symmetry.of_moves(move, number)
    wanted = turned_pose(end, here, number)
    np.testing.assert_allclose((x + found[0], y + found[1]), wanted[:2], atol=1e-6)
    assert math.isclose(math.cos(yaw + found[2] - wanted[2]), 1.0, abs_tol=1e-6)


def test_the_eight_are_different_and_a_batch_may_have_all() -> None:
    (example,) = goal_examples(search_of([Push(-1, 1, opens=True)]))
    numbers = np.arange(symmetry.SYMMETRIES)
    batch = goal_batch([example] * symmetry.SYMMETRIES, numbers, torch.device("cpu"))
    assert len({batch.masks[i].numpy().tobytes() for i in range(8)}) == 8
    for number in range(8):
        whole = symmetry.of_masks(unpack([example.picture]), number)[0]
        np.testing.assert_array_equal(batch.masks[number].numpy().astype(bool), whole)
        np.testing.assert_allclose(batch.moves[number].numpy(), symmetry.of_moves(example.move, number), atol=1e-6)
