"""The robot's way over the wavefront's grid: shortest, without cutting corners, then shortened by line of sight.

A step to a neighbouring cell costs 2, a diagonal one 3 (3 ÷ 2 stands for √2) and needs both cells beside it. The way
keeps one cell away from everything where it can, so that a robot that does not follow it exactly touches nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.namo.wavefront import Reach

STRAIGHT, DIAGONAL = 2, 3
# Near both ends the way may use every free cell: a push begins and ends beside a box [cells].
_NEAR_END = 2
_END_RADIUS_M = 0.1  # a start or an end in a taken cell counts as in the nearest free one, if that is so near

Cell = tuple[int, int]


def find_path(reach: Reach, start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float64] | None:
    """Way points float64[K, 2] from start to end, both included, both in or near reached cells. None: no way."""
    first, last = reach.nearest(*start, _END_RADIUS_M), reach.nearest(*end, _END_RADIUS_M)
    if first is None or last is None:
        return None
    roomy = _roomy(reach.reached)
    for row, column in (first, last):
        near = np.s_[max(row - _NEAR_END, 0) : row + _NEAR_END + 1, max(column - _NEAR_END, 0) : column + _NEAR_END + 1]
        roomy[near] |= reach.reached[near]
    if _visible(roomy, np.array(first), np.array([last]))[0]:
        return np.array([start, end])
    cells = cell_path(roomy, first, last)
    if cells is None:
        roomy, cells = reach.reached, cell_path(reach.reached, first, last)
    if cells is None:
        return None
    return np.array([start, *_shortened(reach, roomy, cells)[1:-1], end])


def cell_path(free: NDArray[np.bool_], start: Cell, end: Cell) -> list[Cell] | None:
    """The cheapest way over free cells (row, column), both ends included; None: there is none."""
    width = free.shape[1] + 2
    source, target = ((row + 1) * width + column + 1 for row, column in (start, end))
    costs = _wave(np.pad(free, 1).ravel(), width, source, target)
    if costs[target] < 0:
        return None
    way = [target]
    while way[-1] != source:
        way.append(_step_back(costs, width, way[-1]))
    return [(place // width - 1, place % width - 1) for place in reversed(way)]


def path_length(points: NDArray[np.float64]) -> float:
    """Of a way [m]."""
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _wave(free: NDArray[np.bool_], width: int, source: int, target: int) -> NDArray[np.int32]:
    """Cost from the source to each cell, at least as far as the target; -1: not reached."""
    costs = np.full(len(free), -1, np.int32)
    unseen, mark = free.copy(), np.zeros(len(free), np.intp)
    sides, empty = np.array([1, -1, width, -width]), np.empty(0, np.intp)
    corners = np.array([width + 1, width - 1, 1 - width, -1 - width])
    aside = _both_sides(free, width)
    fronts = [np.array([source])]
    costs[source], unseen[source] = 0, False
    while costs[target] < 0 and any(map(len, fronts[-DIAGONAL:])):
        cost = len(fronts)
        near = fronts[cost - STRAIGHT] if cost >= STRAIGHT else empty
        far = fronts[cost - DIAGONAL] if cost >= DIAGONAL else empty
        found = np.concatenate([(near[:, None] + sides).ravel(), (far[:, None] + corners)[aside[far]]])
        found = found[unseen[found]]
        order = np.arange(len(found))
        mark[found] = order
        found = found[mark[found] == order]  # each once
        unseen[found], costs[found] = False, cost
        fronts.append(found)
    return costs


def _both_sides(free: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """bool[cells, 4]: both cells beside the step to each diagonal neighbour are free."""
    right, left, above, below = np.roll(free, -1), np.roll(free, 1), np.roll(free, -width), np.roll(free, width)
    return np.stack([right & above, left & above, right & below, left & below], axis=1)


def _step_back(costs: NDArray[np.int32], width: int, place: int) -> int:
    """A neighbour over which the cheapest way to this cell goes."""
    cost = costs[place]
    for side in (1, -1, width, -width):
        if costs[place + side] == cost - STRAIGHT and cost >= STRAIGHT:
            return place + side
    for up in (width, -width):
        for aside in (1, -1):
            # A cell of lower cost was seen before, so both cells beside the step are known to be free or not.
            beside = costs[place + up] >= 0 and costs[place + aside] >= 0
            if beside and cost >= DIAGONAL and costs[place + up + aside] == cost - DIAGONAL:
                return place + up + aside
    raise AssertionError("a reached cell has a neighbour it was reached from")


def _roomy(reached: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells whose eight neighbours are reached too."""
    padded = np.pad(reached, 1)
    wide = padded[:, 1:-1] & padded[:, :-2] & padded[:, 2:]
    roomy: NDArray[np.bool_] = wide[1:-1] & wide[:-2] & wide[2:]
    return roomy


def _shortened(reach: Reach, free: NDArray[np.bool_], cells: list[Cell]) -> list[tuple[float, float]]:
    """Centres of those cells of the way where it must turn."""
    way, at, kept = np.array(cells), 0, [0]
    while at < len(way) - 1:
        seen = _visible(free, way[at], way[at + 1 :])
        # The next cell is always visible; what is behind something hidden may be visible again, and is as good.
        at += max(int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 1, 1)
        kept.append(at)
    return [reach.wavefront.grid.centre(*cells[number]) for number in kept]


def _visible(free: NDArray[np.bool_], cell: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.bool_]:
    """bool[len(others)]: the line between the centres runs over free cells only (sampled each quarter cell)."""
    steps = 4 * int(np.abs(others - cell).max()) + 1
    share = np.linspace(0.0, 1.0, steps)[None, :, None]
    on_line = np.floor(cell + share * (others - cell)[:, None, :] + 0.5).astype(np.intp)
    clear: NDArray[np.bool_] = free[on_line[..., 0], on_line[..., 1]].all(axis=1)
    return clear
