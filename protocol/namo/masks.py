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
_CACHED_SCENES = 1024
_COLUMNS = np.arange(MASK_PIXELS, dtype=np.int8)
# A box turned by less than this from an axis has edges along the axis.
_FLAT = 1e-9


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
    """One state as models see it.

    reached: from `reached_bits`. selected: place of the movable in the object channel. in_the_way: places of what
    `blocking_path.first_hits` names, in its order; not drawn, but told beside the picture.
    """

    scene: Scene
    state: State
    reached: bytes
    selected: int | None = None
    in_the_way: tuple[int, ...] = ()


def draw(views: Sequence[View]) -> NDArray[np.bool_]:
    """The masks of a batch: bool[B, len(CHANNELS), MASK_PIXELS, MASK_PIXELS]."""
    masks = np.zeros((len(views), len(CHANNELS), MASK_PIXELS, MASK_PIXELS), np.bool_)
    if not views:
        return masks
    frames = [Frame.of(view.scene.bounds) for view in views]
    axes = [frame.axes() for frame in frames]
    x, y = np.stack([a[0] for a in axes]), np.stack([a[1] for a in axes])
    masks[:, 0] = _discs(x, y, [view.state.robot for view in views], ROBOT_DISC_M)
    masks[:, 1] = _discs(x, y, [view.scene.goal for view in views], GOAL_DISC_M)
    begin, end = _spans(frames, [_movable_boxes(view.scene, view.state) for view in views])
    masks[:, 2] = _union(begin, end)
    for number, view in enumerate(views):
        masks[number, 3] = _static(view.scene)
        masks[number, 4] = np.unpackbits(np.frombuffer(view.reached, np.uint8)).reshape(MASK_PIXELS, MASK_PIXELS)
        if view.selected is not None:
            masks[number, 5] = _within(begin[number, view.selected], end[number, view.selected])
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


def _spans(frames: Sequence[Frame], boxes: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The pixels of boxes float64[≤ K, 5] (x, y, yaw, half_x, half_y), row by row: a box is convex, so it has one span.

    Returns int8[B, K, MASK_PIXELS]: the first column, and the one after the last; equal where there is none, and for
    what is missing of K.
    """
    most = max(map(len, boxes))
    padded, exists = np.zeros((len(boxes), most, 5, 1)), np.zeros((len(boxes), most, 1), np.bool_)
    for number, rows in enumerate(boxes):
        padded[number, : len(rows), :, 0], exists[number, : len(rows)] = rows, True
    x, y, yaw, half_x, half_y = (padded[:, :, i] for i in range(5))
    x0, y0, m_per_px = np.array([(frame.x0, frame.y0, frame.m_per_px) for frame in frames]).T[:, :, None, None]
    dy = y0 + (np.arange(MASK_PIXELS) + 0.5) * m_per_px - y
    cos, sin = np.cos(yaw), np.sin(yaw)
    low, high = _between(cos, sin * dy, half_x)
    low_y, high_y = _between(-sin, cos * dy, half_y)
    # Column c has its centre at x0 + (c + ½)·m_per_px.
    begin = np.ceil((x + np.maximum(low, low_y) - x0) / m_per_px - 0.5).clip(0, MASK_PIXELS)
    end = (np.floor((x + np.minimum(high, high_y) - x0) / m_per_px - 0.5) + 1).clip(0, MASK_PIXELS)
    end = np.where(exists, np.maximum(begin, end), begin)
    return begin.astype(np.int8), end.astype(np.int8)


def _between(
    slope: NDArray[np.float64], offset: NDArray[np.float64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval of d with |slope · d + offset| ≤ half; all or nothing where the slope is as good as 0."""
    flat = np.abs(slope) < _FLAT
    safe = np.where(flat, 1.0, slope)
    one, other = (-half - offset) / safe, (half - offset) / safe
    everywhere = np.where(np.abs(offset) <= half, np.inf, -np.inf)
    return np.where(flat, -everywhere, np.minimum(one, other)), np.where(flat, everywhere, np.maximum(one, other))


def _union(begin: NDArray[np.int8], end: NDArray[np.int8]) -> NDArray[np.bool_]:
    """bool[B, MASK_PIXELS, MASK_PIXELS]: within any of the K spans."""
    union = np.zeros((len(begin), MASK_PIXELS, MASK_PIXELS), np.bool_)
    for number in range(begin.shape[1]):
        union |= _within(begin[:, number], end[:, number])
    return union


def _within(begin: NDArray[np.int8], end: NDArray[np.int8]) -> NDArray[np.bool_]:
    """bool[…, MASK_PIXELS]: the columns of a span."""
    found: NDArray[np.bool_] = np.logical_and(begin[..., None] <= _COLUMNS, end[..., None] > _COLUMNS)
    return found


def _movable_boxes(scene: Scene, state: State) -> NDArray[np.float64]:
    halves = np.array([(box.half_x, box.half_y) for box in scene.movables], np.float64).reshape(-1, 2)
    return np.concatenate([state.movables, halves], axis=1)


def _static(scene: Scene) -> NDArray[np.bool_]:
    walls = np.array([(wall.x, wall.y, wall.yaw, wall.half_x, wall.half_y) for wall in scene.walls], np.float64)
    return _walls(scene.bounds, walls.tobytes())


@lru_cache(_CACHED_SCENES)
def _walls(bounds: tuple[float, float, float, float], walls: bytes) -> NDArray[np.bool_]:
    """Of walls float64[W, 5] as bytes: a scene with the most walls takes 45 kB of the cache."""
    union = _union(*_spans([Frame.of(bounds)], [np.frombuffer(walls, np.float64).reshape(-1, 5)]))
    union.setflags(write=False)
    mask: NDArray[np.bool_] = union[0]
    return mask
