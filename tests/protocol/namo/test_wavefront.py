"""Reachability against a naive flood fill that asks every cell for its exact distance to every box."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Grid, Reach, Wavefront
from tests.protocol.namo.random_scenes import random_scene


def naive_distance(box: Box, pose: tuple[float, float, float], x: float, y: float) -> float:
    """Of a point to a box, by the nearest point of each of its sides."""
    corners = []
    for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        dx, dy = sx * box.half_x, sy * box.half_y
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        corners.append((pose[0] + cos * dx - sin * dy, pose[1] + sin * dx + cos * dy))
    best, inside = math.inf, True
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ux, uy = bx - ax, by - ay
        inside &= ux * (y - ay) - uy * (x - ax) >= 0
        t = min(max(((x - ax) * ux + (y - ay) * uy) / (ux * ux + uy * uy), 0), 1)
        best = min(best, math.hypot(x - ax - t * ux, y - ay - t * uy))
    return 0.0 if inside else best


def naive_free(scene: Scene, grid: Grid, state: State) -> NDArray[np.bool_]:
    """Cells whose centre is no nearer to any box than the robot's radius."""
    boxes = [(wall, (wall.x, wall.y, wall.yaw)) for wall in scene.walls]
    boxes += [(box, (x, y, yaw)) for box, (x, y, yaw) in zip(scene.movables, state.movables.tolist(), strict=True)]
    free = np.ones((grid.rows, grid.columns), np.bool_)
    for row, column in np.ndindex(grid.rows, grid.columns):
        x, y = grid.centre(row, column)
        free[row, column] = all(naive_distance(box, pose, x, y) >= scene.robot_radius for box, pose in boxes)
    return free


def flood(free: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.bool_]:
    """Everything that hangs together with a free cell."""
    seen = np.zeros_like(free)
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        if 0 <= row < free.shape[0] and 0 <= column < free.shape[1] and free[row, column] and not seen[row, column]:
            seen[row, column] = True
            queue += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return seen


def turned(scene: Scene, seed: int) -> State:
    """The scene with its movables moved and turned."""
    start = State.initial(scene)
    noise = np.random.default_rng(seed).normal(size=start.movables.shape) * (0.3, 0.3, 2.0)
    return State(start.robot, start.movables + noise)


@pytest.mark.parametrize("seed", range(40))
def test_it_reaches_what_a_naive_flood_fill_reaches(seed: int) -> None:
    scene = random_scene(seed)
    wavefront = Wavefront(scene, resolution=0.1)
    state = turned(scene, seed)
    reach = wavefront.reach(state)
    free = naive_free(scene, wavefront.grid, state)
    np.testing.assert_array_equal(reach.free, free)
    start = wavefront.grid.cell(*scene.robot)
    if free[start]:
        np.testing.assert_array_equal(reach.reached, flood(free, start))
    elif reach.reached.any():  # it sets out from a free cell beside it
        assert reach.nearest(*scene.robot, 0.1) is not None


@pytest.mark.parametrize("seed", range(40))
def test_taking_movables_away_only_frees_cells(seed: int) -> None:
    scene = random_scene(seed)
    wavefront, state = Wavefront(scene, resolution=0.1), State.initial(scene)
    every = range(len(scene.movables))
    walls_only = Scene("w", scene.bounds, scene.robot, scene.goal, scene.walls, (), scene.robot_radius)
    without = wavefront.reach(state, without=every)
    np.testing.assert_array_equal(
        without.reached, Wavefront(walls_only, resolution=0.1).reach(State.initial(walls_only)).reached
    )
    assert not (wavefront.reach(state).free & ~without.free).any()


@pytest.mark.parametrize("seed", range(40))
def test_clearance_is_the_exact_distance(seed: int) -> None:
    scene = random_scene(seed)
    reach = Wavefront(scene, resolution=0.2).reach(turned(scene, seed))
    points = np.random.default_rng(seed).uniform(-6, 6, (20, 2))
    boxes = [(box, (box.x, box.y, box.yaw)) for box in scene.walls]
    movables = list(zip(scene.movables, (tuple(row) for row in reach.state.movables.tolist()), strict=True))
    for left_out in (None, *range(len(movables))):
        others = boxes + [pair for number, pair in enumerate(movables) if number != left_out]
        expected = [min((naive_distance(b, p, x, y) for b, p in others), default=math.inf) for x, y in points.tolist()]
        np.testing.assert_allclose(reach.clearance(points, left_out), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_the_goal_is_open_if_a_reached_cell_is_within_its_tolerance(seed: int) -> None:
    scene = random_scene(seed)
    reach = Wavefront(scene).reach(State.initial(scene))
    centres = [reach.wavefront.grid.centre(*cell) for cell in np.argwhere(reach.reached).tolist()]
    near = [math.dist(centre, scene.goal) for centre in centres]
    assert reach.goal_open == any(distance <= scene.goal_tolerance for distance in near)
    cell = reach.nearest(*scene.goal, scene.goal_tolerance)
    if cell is not None and not reach.contains(*scene.goal):
        assert math.dist(reach.wavefront.grid.centre(*cell), scene.goal) == pytest.approx(min(near))


def test_a_robot_against_a_box_sets_out_from_beside_it() -> None:
    scene = Scene("s", (-1, 1, -1, 1), (-0.34, 0.0), (0.8, 0.0), (), (Box("obstacle_0_movable", 0, 0, 0, 0.2, 0.2),))
    reach = Wavefront(scene).reach(State.initial(scene))
    assert not reach.contains(*scene.robot)
    assert reach.goal_open


def test_a_robot_inside_a_box_reaches_nothing() -> None:
    scene = Scene("s", (-1, 1, -1, 1), (0, 0), (0.8, 0.8), (Box("wall_0", 0, 0, 0, 0.5, 0.5),), ())
    reach: Reach = Wavefront(scene).reach(State.initial(scene))
    assert not reach.reached.any()
    assert not reach.goal_open
