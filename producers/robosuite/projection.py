"""Where the geoms of a model appear in a camera's image, from their bounding boxes.

Pixels count from the lower left corner, as OpenGL does. A rectangle is left, bottom, right, top [px]; one whose left is
greater than its right is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

# Signs of the eight corners of a box.
_CORNERS = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]), axis=-1).reshape(8, 3)
_NOWHERE = (np.inf, np.inf, -np.inf, -np.inf)
# Wider by this on every side: a pixel is coloured from its whole area, and decimated meshes may reach further out.
_MARGIN_PX = 3


@dataclass(frozen=True)
class Window:
    """A part of an image in whole pixels; right and top are the first ones outside."""

    left: int
    bottom: int
    right: int
    top: int

    @property
    def width(self) -> int:
        return max(0, self.right - self.left)

    @property
    def height(self) -> int:
        return max(0, self.top - self.bottom)


class Projection:
    """Projects the bounding box of every geom into the images of one size."""

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        self._model = model
        self._size = np.array([width, height], dtype=np.float64)
        centres, half_sizes = model.geom_aabb[:, None, :3], model.geom_aabb[:, None, 3:]
        self._corners = centres + half_sizes * _CORNERS  # [m] in the frame of each geom
        self._endless = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        self.whole = Window(0, 0, width, height)

    def rectangles(self, data: mujoco.MjData, camera: int) -> NDArray[np.float64]:
        """float64[G, 4]: the rectangle of each geom, cut to the image. Kinematics must be up to date."""
        to_camera = data.cam_xmat[camera].reshape(3, 3)
        places = (data.geom_xpos - data.cam_xpos[camera]) @ to_camera
        turns = np.matmul(to_camera.T, data.geom_xmat.reshape(-1, 3, 3))
        corners = places[:, None, :] + np.matmul(self._corners, turns.transpose(0, 2, 1))
        depth = -corners[..., 2]  # a MuJoCo camera looks along its -z
        near = self._model.vis.map.znear * self._model.stat.extent
        focal_px = self._size[1] / 2 / np.tan(np.deg2rad(self._model.cam_fovy[camera]) / 2)
        pixels = self._size / 2 + focal_px * corners[..., :2] / np.maximum(depth, near)[..., None]
        lowest, highest = pixels.min(axis=1) - _MARGIN_PX, pixels.max(axis=1) + _MARGIN_PX
        rectangles: NDArray[np.float64] = np.concatenate(
            [np.maximum(lowest, 0), np.minimum(highest, self._size)], axis=1
        )
        rectangles[(depth < near).any(axis=1) | self._endless] = (0, 0, *self._size)
        rectangles[(depth < near).all(axis=1) & ~self._endless] = _NOWHERE
        return rectangles


def overlaps(rectangles: NDArray[np.float64], window: Window) -> NDArray[np.bool_]:
    """bool[G]: which rectangles share a pixel with the window."""
    left, bottom, right, top = rectangles.T
    across = (np.maximum(left, window.left) < np.minimum(right, window.right)) & (left < right)
    upward = (np.maximum(bottom, window.bottom) < np.minimum(top, window.top)) & (bottom < top)
    shared: NDArray[np.bool_] = across & upward
    return shared


def enclosing(rectangles: NDArray[np.float64]) -> Window:
    """The smallest window around the rectangles that are not empty; an empty window if there is none."""
    seen = rectangles[(rectangles[:, 0] < rectangles[:, 2]) & (rectangles[:, 1] < rectangles[:, 3])]
    if not len(seen):
        return Window(0, 0, 0, 0)
    left, bottom = np.floor(seen[:, :2].min(axis=0)).astype(int).tolist()
    right, top = np.ceil(seen[:, 2:].max(axis=0)).astype(int).tolist()
    return Window(left, bottom, right, top)


def narrow(scene: mujoco.MjvScene, window: Window, whole: Window) -> None:
    """Let the scene's camera see only `window`, pixel for pixel as it is in the whole image."""
    for eye in scene.camera:
        bottom, height = eye.frustum_bottom, eye.frustum_top - eye.frustum_bottom
        half_width = eye.frustum_width or height * whole.width / whole.height / 2
        left, width = eye.frustum_center - half_width, 2 * half_width
        eye.frustum_bottom = bottom + height * window.bottom / whole.height
        eye.frustum_top = bottom + height * window.top / whole.height
        eye.frustum_center = left + width * (window.left + window.right) / 2 / whole.width
        eye.frustum_width = width * window.width / 2 / whole.width
