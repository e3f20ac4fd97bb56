"""Boxes on the floor of a layout: some in its doors, the others anywhere, none touching another or a wall."""

from __future__ import annotations

import math

import numpy as np

from producers.namo import boxes
from producers.namo.boxes import Rows
from producers.namo.generator.difficulty import Difficulty
from producers.namo.generator.draws import Draws
from producers.namo.generator.templates import WALL_HALF_HEIGHT, WALL_HALF_THICKNESS, Door, Layout
from protocol.namo.scene import Box

# With this probability boxes are put into doors on purpose.
_IN_DOOR_PROBABILITY = 0.7
# A robot of radius 0.15 m must not fit through beside the box.
_DOOR_GAP_M = (0.06, 0.12)
_DOOR_DEPTH_HALF_M = (0.2, 0.32)
_DOOR_SHIFT_M, _DOOR_TURN_RAD = 0.08, 0.06
_BETWEEN_BOXES_M = 0.05
_BESIDE_WALL_M = 0.02
_TRIES = 40
_DIGITS = 4


def walls(layout: Layout) -> tuple[Box, ...]:
    """Named as in the original, from 1 on."""
    made = []
    for number, line in enumerate(layout.walls, 1):
        middle = (round((line.x0 + line.x1) / 2, _DIGITS + 1), round((line.y0 + line.y1) / 2, _DIGITS + 1))
        half_x = max(round(abs(line.x1 - line.x0) / 2, _DIGITS + 1), WALL_HALF_THICKNESS)
        half_y = max(round(abs(line.y1 - line.y0) / 2, _DIGITS + 1), WALL_HALF_THICKNESS)
        made.append(Box(f"wall_{number}", *middle, 0.0, half_x, half_y, WALL_HALF_HEIGHT))
    return tuple(made)


def movables(draws: Draws, difficulty: Difficulty, layout: Layout, standing: Rows, hops: int) -> tuple[Box, ...] | None:
    """Boxes among the walls, in random order; None if there was no room.

    standing: the walls. hops: boundaries that are wanted; for more than one, boxes are always put into that many doors.
    """
    count = draws.integer(*difficulty.movables)
    doors: list[Door | None] = []
    if draws.chance(_IN_DOOR_PROBABILITY) or hops > 1:
        blocked = min(max(draws.integer(*difficulty.doors_blocked), hops), count)
        doors = list(draws.shuffled(layout.doors)[:blocked])
    places = doors + [None] * (count - len(doors))
    placed = np.empty((0, 5))
    for door in places:
        for _ in range(_TRIES):
            row = _in_door(draws, door) if door else _anywhere(draws, difficulty, layout)
            alone = not boxes.overlaps(row, placed, _BETWEEN_BOXES_M).any()
            if alone and not boxes.overlaps(row, standing, _BESIDE_WALL_M).any():
                break
        else:
            return None
        placed = np.concatenate([placed, row[None]])
    return tuple(_movable(number, row) for number, row in enumerate(draws.shuffled(list(placed)), 1))


def _movable(number: int, row: Rows) -> Box:
    x, y, yaw, half_x, half_y = map(float, row)
    return Box(f"obstacle_{number}_movable", x, y, yaw, half_x, half_y, WALL_HALF_HEIGHT)


def _in_door(draws: Draws, door: Door) -> Rows:
    shift = draws.uniform(-_DOOR_SHIFT_M, _DOOR_SHIFT_M)
    gap = draws.uniform(*_DOOR_GAP_M)
    turned = door.yaw + draws.uniform(-_DOOR_TURN_RAD, _DOOR_TURN_RAD)
    x, y = door.x + shift * math.cos(door.yaw), door.y + shift * math.sin(door.yaw)
    row = (x, y, turned, draws.uniform(*_DOOR_DEPTH_HALF_M), door.width / 2 - gap)
    return np.array(row).round(_DIGITS)


def _anywhere(draws: Draws, difficulty: Difficulty, layout: Layout) -> Rows:
    x, y = (draws.uniform(-side / 2, side / 2) for side in (layout.width, layout.height))
    row = (x, y, draws.uniform(-math.pi, math.pi), draws.uniform(*difficulty.half), draws.uniform(*difficulty.half))
    return np.array(row).round(_DIGITS)
