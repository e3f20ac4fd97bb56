"""Scenes as pictures for the models: one function draws them, for training and for serving.

A mask is a square of MASK_PIXELS × MASK_PIXELS, row 0 at the bottom (y up, as in the world). It shows the scene's
bounds at one scale, centred. A pixel is set if its centre is inside the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol.namo.scene import Point, Scene, State
from protocol.namo.wavefront import Reach

MASK_PIXELS = 64
CHANNELS = ("robot", "goal", "movable", "static", "reachable", "object")
# Discs as the original drew them [m].
ROBOT_DISC_M, GOAL_DISC_M = 0.2, 0.25
REACHED_BYTES = MASK_PIXELS * MASK_PIXELS // 8
_CACHED_SCENES = 4096


@dataclass(frozen=True)
class Frame:
    """How a world is laid over a mask: the world's point of pixel (row, column) is x0 + (column + ½)·m_per_px, …"""

    x0: float
    y0: float
    m_per_px: float

    @staticmethod
    def of(bounds: tuple[float, float, float, float]) -> Frame:
        """The larger side of the bounds fills the mask."""
        x0, x1, y0, y1 = bounds
        side = max(x1 - x0, y1 - y0)
        return Frame((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side / MASK_PIXELS)

    def axes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """x of the columns and y of the rows, float32[MASK_PIXELS] [m]."""
        steps = (np.arange(MASK_PIXELS) + 0.5) * self.m_per_px
        return (self.x0 + steps).astype(np.float32), (self.y0 + steps).astype(np.float32)


@dataclass(frozen=True)
class View:
    """One picture to draw. reached: from `reached_bits`; selected: place of the movable in the object channel."""

    scene: Scene
    state: State
    reached: bytes
    selected: int | None = None


def draw(views: Sequence[View]) -> NDArray[np.bool_]:
    """The masks of a batch: bool[B, len(CHANNELS), MASK_PIXELS, MASK_PIXELS]."""
    masks = np.zeros((len(views), len(CHANNELS), MASK_PIXELS, MASK_PIXELS), np.bool_)
    if not views:
        return masks
    axes = [Frame.of(view.scene.bounds).axes() for view in views]
    x, y = np.stack([a[0] for a in axes]), np.stack([a[1] for a in axes])
    masks[:, 0] = _discs(x, y, [view.state.robot for view in views], ROBOT_DISC_M)
    masks[:, 1] = _discs(x, y, [view.scene.goal for view in views], GOAL_DISC_M)
    shapes = _shapes(x, y, [_movable_boxes(view.scene, view.state) for view in views])
    masks[:, 2] = shapes.any(axis=1)
    for number, view in enumerate(views):
        masks[number, 3] = _static(view.scene)
        masks[number, 4] = np.unpackbits(np.frombuffer(view.reached, np.uint8)).reshape(MASK_PIXELS, MASK_PIXELS)
        if view.selected is not None:
            masks[number, 5] = shapes[number, view.selected]
    return masks


def reached_bits(reach: Reach) -> bytes:
    """The reachable channel, one bit a pixel: the wavefront's answer in the cell of each pixel's centre."""
    grid = reach.wavefront.grid
    x, y = Frame.of(reach.wavefront.scene.bounds).axes()
    columns = np.floor((x - grid.x0) / grid.resolution).astype(np.intp)
    rows = np.floor((y - grid.y0) / grid.resolution).astype(np.intp)
    inside = ((rows >= 0) & (rows < grid.rows))[:, None] & ((columns >= 0) & (columns < grid.columns))[None, :]
    cells = reach.reached[rows.clip(0, grid.rows - 1)[:, None], columns.clip(0, grid.columns - 1)[None, :]]
    return np.packbits(inside & cells).tobytes()


def _discs(
    x: NDArray[np.float32], y: NDArray[np.float32], centres: Sequence[Point | NDArray[np.float64]], radius: float
) -> NDArray[np.bool_]:
    at = np.asarray(centres, np.float32)
    distance2 = ((x - at[:, :1]) ** 2)[:, None, :] + ((y - at[:, 1:]) ** 2)[:, :, None]
    return np.less_equal(distance2, radius * radius)


def _shapes(x: NDArray[np.float32], y: NDArray[np.float32], boxes: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """bool[B, K, H, W] of boxes float32[≤ K, 5]: x, y, yaw, half_x, half_y; what is missing of K is empty."""
    most = max(map(len, boxes))
    padded = np.full((len(boxes), most, 5), -1, np.float32)
    for number, rows in enumerate(boxes):
        padded[number, : len(rows)] = rows
    bx, by, yaw, half_x, half_y = (padded[:, :, i, None, None] for i in range(5))
    dx, dy = x[:, None, None, :] - bx, y[:, None, :, None] - by
    cos, sin = np.cos(yaw), np.sin(yaw)
    inside_x = np.less_equal(np.abs(cos * dx + sin * dy), half_x)
    return np.logical_and(inside_x, np.abs(cos * dy - sin * dx) <= half_y)


def _movable_boxes(scene: Scene, state: State) -> NDArray[np.float32]:
    halves = np.array([(box.half_x, box.half_y) for box in scene.movables], np.float32).reshape(-1, 2)
    return np.concatenate([state.movables.astype(np.float32), halves], axis=1)


@lru_cache(_CACHED_SCENES)
def _static(scene: Scene) -> NDArray[np.bool_]:
    x, y = Frame.of(scene.bounds).axes()
    mask = np.zeros((MASK_PIXELS, MASK_PIXELS), np.bool_)
    for wall in scene.walls:  # one by one: a thousand walls at once would take megabytes
        row = np.array([[wall.x, wall.y, wall.yaw, wall.half_x, wall.half_y]], np.float32)
        mask |= _shapes(x[None], y[None], [row])[0, 0]
    mask.setflags(write=False)
    return mask
