"""What the models are told about each movable beside the masks: numbers, and where in the picture to look.

One function for training and serving, as for the masks. Lengths are shares of the mask's side, so that numbers and
picture agree; one number says how long that side is in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.namo.masks import MASK_PIXELS, Frame, View

# Points of a box at which the picture is looked at, in half extents: its centre, corners, and outside of its faces.
LOOKS = np.array([(0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)], np.float32)
NUMBERS = 12
_SIDE_M = 10.0


@dataclass(frozen=True)
class Places:
    """points: float32[B, K, len(LOOKS), 2], x and y in −1 … 1 over the mask; numbers: float32[B, K, NUMBERS]."""

    points: NDArray[np.float32]
    numbers: NDArray[np.float32]

    @staticmethod
    def empty(batch: int, most: int) -> Places:
        """All zero, to be filled."""
        points = np.zeros((batch, most, len(LOOKS), 2), np.float32)
        return Places(points, np.zeros((batch, most, NUMBERS), np.float32))


def all_places(views: Sequence[View], batch: int, most: int) -> Places:
    """Of every movable of each view, in the scene's order; padded with zeros to batch × most."""
    return _places(views, [range(len(view.scene.movables)) for view in views], batch, most)


def selected_places(views: Sequence[View], batch: int) -> Places:
    """Of the selected movable of each view only: K is 1. Raises ValueError for a view without one."""
    which = []
    for view in views:
        if view.selected is None:
            raise ValueError(f"expected a view with a selected movable, found none in scene {view.scene.name!r}")
        which.append((view.selected,))
    return _places(views, which, batch, 1)


def _places(views: Sequence[View], which: Sequence[Sequence[int]], batch: int, most: int) -> Places:
    boxes, exists = np.zeros((len(views), most, 5)), np.zeros((len(views), most, 1), np.float32)
    in_the_way = np.zeros((len(views), most))
    rooms = np.empty((len(views), 7))
    for item, (view, chosen) in enumerate(zip(views, which, strict=True)):
        scene, frame = view.scene, Frame.of(view.scene.bounds)
        movables = [scene.movables[place] for place in chosen]
        boxes[item, : len(chosen), :3] = view.state.movables[list(chosen)]
        boxes[item, : len(chosen), 3:] = [(box.half_x, box.half_y) for box in movables] or np.empty((0, 2))
        exists[item, : len(chosen)] = 1
        ranks = {place: rank for rank, place in enumerate(view.in_the_way, 1)}
        in_the_way[item, : len(chosen)] = [1 / ranks[place] if place in ranks else 0.0 for place in chosen]
        rooms[item] = (frame.x0, frame.y0, frame.m_per_px * MASK_PIXELS, *view.state.robot, *scene.goal)
    points, numbers = _of_boxes(boxes, rooms[:, None])
    numbers[..., 11] = in_the_way
    places = Places.empty(batch, most)
    places.points[: len(views)] = points * exists[..., None]
    places.numbers[: len(views)] = numbers * exists
    return places


def _of_boxes(boxes: NDArray[np.float64], rooms: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Of boxes [B, K, 5] (x, y, yaw, half_x, half_y) in rooms [B, 1, 7] (corner, side, robot, goal)."""
    yaw, halves = boxes[..., 2], boxes[..., 3:]
    corner, side = rooms[..., :2], rooms[..., 2:3]
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    along, across = LOOKS[:, 0] * halves[..., :1], LOOKS[:, 1] * halves[..., 1:]
    centre = (boxes[..., :2] - corner) / side
    looks = np.stack([cos * along - sin * across, sin * along + cos * across], axis=-1) / side[..., None]
    numbers = np.empty((*boxes.shape[:2], NUMBERS))
    numbers[..., 0:2] = centre
    numbers[..., 2:4] = (rooms[..., 3:5] - corner) / side - centre
    numbers[..., 4:6] = (rooms[..., 5:7] - corner) / side - centre
    numbers[..., 6:8] = halves / side
    # A box turned by half a turn is the same box.
    numbers[..., 8], numbers[..., 9] = np.cos(2 * yaw), np.sin(2 * yaw)
    numbers[..., 10] = side[..., 0] / _SIDE_M
    return (centre[..., None, :] + looks) * 2 - 1, numbers
