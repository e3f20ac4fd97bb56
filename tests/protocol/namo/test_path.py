"""The way over the grid against a naive Dijkstra, on random scenes."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.namo.path import DIAGONAL, STRAIGHT, cell_path, find_path, path_length
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront
from tests.protocol.namo.random_scenes import random_scene

Cell = tuple[int, int]


def neighbours(free: NDArray[np.bool_], cell: Cell) -> list[tuple[int, Cell]]:
    """Cost and cell of every allowed step."""

    def ok(row: int, column: int) -> bool:
        return 0 <= row < free.shape[0] and 0 <= column < free.shape[1] and bool(free[row, column])

    found = []
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            row, column = cell[0] + dr, cell[1] + dc
            if (dr or dc) and ok(row, column) and ok(cell[0], column) and ok(row, cell[1]):
                found.append((DIAGONAL if dr and dc else STRAIGHT, (row, column)))
    return found


def naive_costs(free: NDArray[np.bool_], start: Cell) -> dict[Cell, int]:
    """Of the cheapest way to every cell that can be reached."""
    costs, heap = {}, [(0, start)]
    while heap:
        cost, cell = heapq.heappop(heap)
        if cell not in costs:
            costs[cell] = cost
            for step, other in neighbours(free, cell):
                heapq.heappush(heap, (cost + step, other))
    return costs


@pytest.mark.parametrize("seed", range(200))
def test_the_way_is_as_cheap_as_a_naive_search_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    free = rng.random((int(rng.integers(1, 14)), int(rng.integers(1, 14)))) > rng.uniform(0.05, 0.5)
    cells = np.argwhere(free)
    if not len(cells):
        return
    start = (int(cells[0][0]), int(cells[0][1]))
    costs = naive_costs(free, start)
    for row, column in cells[rng.permutation(len(cells))[:8]].tolist():
        way = cell_path(free, start, (row, column))
        assert (way is None) == ((row, column) not in costs)
        if way is not None:
            assert (way[0], way[-1]) == (start, (row, column))
            steps = [{other: cost for cost, other in neighbours(free, a)}[b] for a, b in itertools.pairwise(way)]
            assert sum(steps) == costs[row, column]


@pytest.mark.parametrize("seed", range(200))
def test_the_shortened_way_touches_nothing(seed: int) -> None:
    scene = random_scene(seed)
    wavefront = Wavefront(scene, resolution=0.08)
    reach = wavefront.reach(State.initial(scene))
    reached = np.argwhere(reach.reached)
    if not len(reached):
        return
    rng = np.random.default_rng(seed)
    start = wavefront.grid.centre(*reached[int(rng.integers(len(reached)))].tolist())
    end = wavefront.grid.centre(*reached[int(rng.integers(len(reached)))].tolist())
    points = find_path(reach, start, end)
    assert points is not None
    assert tuple(points[0]) == start
    assert tuple(points[-1]) == end
    along = [a + (b - a) * t for a, b in itertools.pairwise(points) for t in np.linspace(0, 1, 30)]
    # Between two neighbouring free centres a corner may come nearer than the radius, by much less than half a cell.
    assert reach.clearance(np.array(along)).min() > scene.robot_radius - wavefront.grid.resolution / 2


def test_no_way_to_where_the_robot_cannot_be() -> None:
    scene = Scene("s", (-1, 1, -1, 1), (-0.7, 0), (9, 9), (Box("wall_1", 0, 0, 0, 0.05, 1),), ())
    reach = Wavefront(scene).reach(State.initial(scene))
    assert find_path(reach, scene.robot, (0.7, 0.0)) is None
    assert find_path(reach, scene.robot, (-0.7, 0.7)) is not None


def test_the_way_leads_around_a_wall_over_its_corners() -> None:
    scene = Scene("s", (-1, 1, -1, 1), (-0.5, -0.7), (9, 9), (Box("wall_1", 0, -0.4, 0, 0.05, 0.6),), ())
    reach = Wavefront(scene).reach(State.initial(scene))
    points = find_path(reach, scene.robot, (0.5, -0.7))
    assert points is not None
    assert 4 <= len(points) <= 6
    shortest = 2 * float(np.hypot(0.5 - 0.2, 0.9)) + 0.4  # around the corners at the robot's radius
    assert shortest < path_length(points) < 1.25 * shortest
