"""Plane geometry of oriented boxes. A box is a row x, y, yaw, half_x, half_y [m, rad]."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from protocol.namo.scene import Box

Rows = NDArray[np.float64]


def rows(boxes: Iterable[Box]) -> Rows:
    """float64[N, 5] of boxes as they stand in the scene."""
    listed = [(box.x, box.y, box.yaw, box.half_x, box.half_y) for box in boxes]
    return np.array(listed, np.float64).reshape(-1, 5)


def corners(boxes: Rows) -> NDArray[np.float64]:
    """float64[N, 4, 2], counter-clockwise."""
    along, across = _axes(boxes)
    x, y = along * boxes[:, 3:4], across * boxes[:, 4:5]
    around = np.stack([x + y, y - x, -x - y, x - y], axis=1)
    return np.asarray(around + boxes[:, None, :2])


def bounds(boxes: Rows) -> tuple[float, float, float, float]:
    """x0, x1, y0, y1 of all corners; there has to be a box."""
    points = corners(boxes).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return float(x0), float(x1), float(y0), float(y1)


def overlaps(box: Rows, others: Rows, gap: float = 0.0) -> NDArray[np.bool_]:
    """bool[N]: which of `others` share a point with one box, float64[5], when both are grown by gap / 2 to each side.

    Two convex shapes are apart if and only if they are apart along a normal of one of their sides.
    """
    grown = np.array([0, 0, 0, gap / 2, gap / 2])
    one, many = box[None] + grown, others + grown
    axes = np.stack([*_axes(np.broadcast_to(one, many.shape)), *_axes(many)], axis=1)
    apart = np.abs(np.einsum("nac,nc->na", axes, many[:, :2] - one[:, :2]))
    return np.asarray((apart <= _shadow(one, axes) + _shadow(many, axes)).all(axis=1))


def distances(x: float, y: float, boxes: Rows) -> NDArray[np.float64]:
    """float64[N]: how far a point is from each box [m]; 0 inside."""
    along, across = _axes(boxes)
    away = np.array([x, y]) - boxes[:, :2]
    dx = np.maximum(np.abs((along * away).sum(axis=1)) - boxes[:, 3], 0)
    dy = np.maximum(np.abs((across * away).sum(axis=1)) - boxes[:, 4], 0)
    return np.asarray(np.hypot(dx, dy))


def _axes(boxes: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cos, sin = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    return np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)


def _shadow(boxes: Rows, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[N, A]: half the length of a box's projection on each axis."""
    along, across = _axes(boxes)
    x = np.abs((axes * along[:, None]).sum(axis=2)) * boxes[:, 3:4]
    y = np.abs((axes * across[:, None]).sum(axis=2)) * boxes[:, 4:5]
    return np.asarray(x + y)
