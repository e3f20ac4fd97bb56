"""Where walls and doors are: rooms of four kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from producers.namo.generator.difficulty import Difficulty
from producers.namo.generator.draws import Draws

# Half of a wall's thickness and of its height, as in the original [m].
WALL_HALF_THICKNESS, WALL_HALF_HEIGHT = 0.05, 0.3
_DIGITS = 4
_MAZE_CELL_M = 1.4
_HALF_PI = math.pi / 2


@dataclass(frozen=True)
class Segment:
    """A wall parallel to an axis: its centre line from (x0, y0) to (x1, y1)."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Door:
    """A gap in a wall. yaw: the way through it. width: between its jambs."""

    x: float
    y: float
    yaw: float
    width: float


@dataclass(frozen=True)
class Layout:
    """An empty floor of width × height metres about the origin, the walls and the doors in it."""

    width: float
    height: float
    walls: tuple[Segment, ...]
    doors: tuple[Door, ...]


_Piece = tuple[list[Segment], list[Door]]


def two_rooms(draws: Draws, difficulty: Difficulty) -> Layout:
    """One wall across, with a door, sometimes two."""
    width, height = _floor(draws, (4.4, 6.0), (3.6, 4.6))
    across = _round(draws.uniform(-0.15, 0.15) * width)
    ends = [-height / 2, 0.0, height / 2] if draws.chance(difficulty.loops) else [-height / 2, height / 2]
    pieces = [_wall_with_door(draws, difficulty, (across, low, high), upright=True) for low, high in pairwise(ends)]
    return _layout(width, height, pieces)


def corridor(draws: Draws, difficulty: Difficulty) -> Layout:
    """Rooms on both sides of a corridor, each with one door to it."""
    width, height = _floor(draws, (5.4, 6.0), (4.8, 5.6))
    half = _round(draws.uniform(1.1, 1.4) / 2)
    pieces: list[_Piece] = []
    for side in (-1, 1):
        middle = _round(draws.uniform(-0.1, 0.1) * width)
        for low, high in ((-width / 2, middle), (middle, width / 2)):
            pieces.append(_wall_with_door(draws, difficulty, (side * half, low, high), upright=False))
        ends = sorted((side * half, side * height / 2))
        if draws.chance(difficulty.loops):
            pieces.append(_wall_with_door(draws, difficulty, (middle, ends[0], ends[1]), upright=True))
        else:
            pieces.append(([Segment(middle, ends[0], middle, ends[1])], []))
    return _layout(width, height, pieces)


def four_rooms(draws: Draws, difficulty: Difficulty) -> Layout:
    """A cross of walls: a door in three of its arms, sometimes in all four."""
    width, height = _floor(draws, (4.8, 6.0), (4.8, 6.0))
    x, y = (_round(draws.uniform(-0.1, 0.1) * side) for side in (width, height))
    arms = [
        ((x, -height / 2, y), True),
        ((x, y, height / 2), True),
        ((y, -width / 2, x), False),
        ((y, x, width / 2), False),
    ]
    closed = -1 if draws.chance(difficulty.loops) else draws.integer(0, 3)
    pieces: list[_Piece] = []
    for number, ((at, low, high), upright) in enumerate(arms):
        if number == closed:
            pieces.append(([_segment(at, low, high, upright)], []))
        else:
            pieces.append(_wall_with_door(draws, difficulty, (at, low, high), upright))
    return _layout(width, height, pieces)


def maze(draws: Draws, difficulty: Difficulty) -> Layout:
    """Square cells that form a tree, with some more of the walls between them deleted. Each opening is a door."""
    columns, rows = draws.integer(3, 4), draws.integer(3, 4)
    borders = _borders(columns, rows)
    opened = _tree(draws, borders, columns * rows)
    opened |= {border for border in borders if border not in opened and draws.chance(difficulty.loops)}
    width, height = columns * _MAZE_CELL_M, rows * _MAZE_CELL_M
    walls, doors = [], []
    for first, second in borders:
        row, column = divmod(first, columns)
        upright = second == first + 1
        x, y = (column + (1 if upright else 0.5)) * _MAZE_CELL_M, (row + (0.5 if upright else 1)) * _MAZE_CELL_M
        x, y = _round(x - width / 2), _round(y - height / 2)
        if (first, second) in opened:
            clear = _round(_MAZE_CELL_M - 2 * WALL_HALF_THICKNESS)
            doors.append(Door(x, y, 0.0 if upright else _HALF_PI, clear))
        else:
            at, along = (x, y) if upright else (y, x)
            walls.append(_segment(at, along - _MAZE_CELL_M / 2, along + _MAZE_CELL_M / 2, upright))
    return _layout(width, height, [(walls, doors)])


# The order is part of the seed: append only.
TEMPLATES: dict[str, Callable[[Draws, Difficulty], Layout]] = {
    "two_rooms": two_rooms,
    "corridor": corridor,
    "four_rooms": four_rooms,
    "maze": maze,
}


def _floor(draws: Draws, width: tuple[float, float], height: tuple[float, float]) -> tuple[float, float]:
    return round(draws.uniform(*width), 1), round(draws.uniform(*height), 1)


def _layout(width: float, height: float, pieces: Sequence[_Piece]) -> Layout:
    x, y = _round(width / 2), _round(height / 2)
    outer = (Segment(-x, -y, -x, y), Segment(x, -y, x, y), Segment(-x, -y, x, -y), Segment(-x, y, x, y))
    walls = [wall for piece in pieces for wall in piece[0]]
    doors = [door for piece in pieces for door in piece[1]]
    return Layout(width, height, (*outer, *walls), tuple(doors))


def _wall_with_door(draws: Draws, difficulty: Difficulty, line: tuple[float, float, float], upright: bool) -> _Piece:
    """A wall at x (upright) or y = line[0], from line[1] to line[2], with one door in it."""
    at, low, high = line
    width = min(_round(draws.uniform(*difficulty.door_width)), _round((high - low) * 0.6))
    room = (high - low - width) / 2 - 4 * WALL_HALF_THICKNESS
    middle = _round((low + high) / 2 + draws.uniform(-room, room))
    walls = [_segment(at, low, middle - width / 2, upright), _segment(at, middle + width / 2, high, upright)]
    x, y = (at, middle) if upright else (middle, at)
    return walls, [Door(x, y, 0.0 if upright else _HALF_PI, width)]


def _segment(at: float, low: float, high: float, upright: bool) -> Segment:
    low, high = _round(low), _round(high)
    return Segment(at, low, at, high) if upright else Segment(low, at, high, at)


def _borders(columns: int, rows: int) -> list[tuple[int, int]]:
    """Pairs of neighbouring cells; a cell is row · columns + column."""
    beside = [(cell, cell + 1) for cell in range(columns * rows) if (cell + 1) % columns]
    above = [(cell, cell + columns) for cell in range(columns * (rows - 1))]
    return beside + above


def _tree(draws: Draws, borders: Sequence[tuple[int, int]], cells: int) -> set[tuple[int, int]]:
    """A random spanning tree: borders in random order, each opened if it joins two parts."""
    part = list(range(cells))
    opened = set()
    for first, second in draws.shuffled(borders):
        one, other = part[first], part[second]
        if one != other:
            opened.add((first, second))
            part = [one if each == other else each for each in part]
    return opened


def _round(value: float) -> float:
    return round(value, _DIGITS)
