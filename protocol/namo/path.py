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
    cells = _bits(np.pad(free, 1))
    fronts = _wave(cells, width, source, target)
    if not fronts[-1] >> target & 1:
        return None
    way, cost = [target], len(fronts) - 1
    while cost:
        step, cost = _step_back(fronts, cells, width, (way[-1], cost))
        way.append(way[-1] + step)
    return [(place // width - 1, place % width - 1) for place in reversed(way)]


def path_length(points: NDArray[np.float64]) -> float:
    """Of a way [m]."""
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _wave(free: int, width: int, source: int, target: int) -> list[int]:
    """Which cells are first reached at cost 0, 1, …: a set of cells is a number whose bits are the grid's rows.

    Ends with the set that holds the target, or with an empty one. Numbers of some thousand bits are the fastest sets
    for this that there are without compiled code.
    """
    right, left, above, below = free >> 1, free << 1, free >> width, free << width
    corners = ((right & above, width + 1), (left & above, width - 1))
    lower = ((left & below, width + 1), (right & below, width - 1))
    wanted, fronts = 1 << target, [0] * (DIAGONAL - 1) + [1 << source & free]
    unseen = free ^ fronts[-1]
    while not fronts[-1] & wanted and any(fronts[-DIAGONAL:]):
        near, far = fronts[-STRAIGHT], fronts[-DIAGONAL]
        found = near << 1 | near >> 1 | near << width | near >> width
        if far:
            for beside, step in corners:
                found |= (far & beside) << step
            for beside, step in lower:
                found |= (far & beside) >> step
        found &= unseen
        unseen ^= found
        fronts.append(found)
    return fronts[DIAGONAL - 1 :]


def _step_back(fronts: list[int], free: int, width: int, at: tuple[int, int]) -> tuple[int, int]:
    """From a cell (place, cost): the step to a neighbour over which the cheapest way to it goes, and its cost."""
    place, cost = at
    before = fronts[cost - STRAIGHT] if cost >= STRAIGHT else 0
    for side in (1, -1, width, -width):
        if before >> place + side & 1:
            return side, cost - STRAIGHT
    before = fronts[cost - DIAGONAL] if cost >= DIAGONAL else 0
    for up in (width, -width):
        for aside in (1, -1):
            if before >> place + up + aside & free >> place + up & free >> place + aside & 1:
                return up + aside, cost - DIAGONAL
    raise AssertionError("a reached cell has a neighbour it was reached from")


def _bits(cells: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(cells, axis=None, bitorder="little").tobytes(), "little")


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
    """bool[len(others)]: the line between the centres runs over free cells only (sampled each half cell)."""
    steps = 2 * int(np.abs(others - cell).max()) + 1
    share = np.linspace(0.0, 1.0, steps)[None, :, None]
    on_line = np.floor(cell + share * (others - cell)[:, None, :] + 0.5).astype(np.intp)
    clear: NDArray[np.bool_] = free[on_line[..., 0], on_line[..., 1]].all(axis=1)
    return clear
