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
NUMBERS = 11
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
    places = Places.empty(batch, most)
    for number, view in enumerate(views):
        count = len(view.scene.movables)
        points, numbers = _of_boxes(view, np.arange(count))
        places.points[number, :count], places.numbers[number, :count] = points, numbers
    return places


def selected_places(views: Sequence[View], batch: int) -> Places:
    """Of the selected movable of each view only: K is 1. Raises ValueError for a view without one."""
    places = Places.empty(batch, 1)
    for number, view in enumerate(views):
        if view.selected is None:
            raise ValueError(f"expected a view with a selected movable, found none in scene {view.scene.name!r}")
        points, numbers = _of_boxes(view, np.array([view.selected]))
        places.points[number], places.numbers[number] = points, numbers
    return places


def _of_boxes(view: View, which: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scene, frame = view.scene, Frame.of(view.scene.bounds)
    side = frame.m_per_px * MASK_PIXELS
    poses = view.state.movables[which].astype(np.float32)
    halves = np.array([(scene.movables[i].half_x, scene.movables[i].half_y) for i in which], np.float32).reshape(-1, 2)
    yaw = poses[:, 2]
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    along, across = LOOKS[:, 0] * halves[:, :1], LOOKS[:, 1] * halves[:, 1:]
    corner = np.array([frame.x0, frame.y0], np.float32)
    centre = (poses[:, :2] - corner) / side
    looks = np.stack([cos * along - sin * across, sin * along + cos * across], axis=-1) / side
    numbers = np.empty((len(which), NUMBERS), np.float32)
    numbers[:, 0:2] = centre
    numbers[:, 2:4] = (np.asarray(view.state.robot, np.float32) - corner) / side - centre
    numbers[:, 4:6] = (np.array(scene.goal, np.float32) - corner) / side - centre
    numbers[:, 6:8] = halves / side
    # A box turned by half a turn is the same box.
    numbers[:, 8], numbers[:, 9] = np.cos(2 * yaw), np.sin(2 * yaw)
    numbers[:, 10] = side / _SIDE_M
    return (centre[:, None] + looks) * 2 - 1, numbers
