"""A scene from above as a picture for people: walls, boxes, robot, goal, what can be reached, and what is pushed where.

Drawn larger than asked and made smaller, so that edges are smooth. The same numbers give the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Reach

FRAME_PIXELS = 224
_SHARPER = 3
_BORDER = 0.03  # of the side, round the scene's bounds

FLOOR, OUTSIDE = (246, 244, 239), (226, 223, 216)
COVERED, REACHED = (221, 235, 245), (190, 218, 239)
WALL, WALL_EDGE = (66, 72, 84), (44, 48, 58)
BOX, BOX_EDGE = (221, 196, 154), (150, 121, 76)
PUSHED, PUSHED_EDGE = (236, 140, 66), (158, 76, 20)
GHOST = (190, 84, 22)
ROBOT, ROBOT_EDGE = (36, 99, 178), (18, 54, 104)
GOAL, GOAL_FILL = (26, 140, 84), (200, 235, 214)

Pose = tuple[float, float, float]
Pixel = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Push:
    """What is shown of a push. place: of the movable in the scene. target: where it should go [m, rad]."""

    place: int
    target: Pose


@dataclass(frozen=True)
class View:
    """One picture.

    push: drawn over the scene. path: points that the robot drives through [m]. traces: places and poses of boxes whose
    outline is drawn thinly, for example where they were pushed in vain. labels: number the boxes.
    """

    scene: Scene
    state: State
    reach: Reach | None = None
    push: Push | None = None
    path: Sequence[tuple[float, float]] = ()
    traces: Sequence[tuple[int, Pose]] = ()
    labels: bool = False


def draw(view: View, pixels: int = FRAME_PIXELS, square: bool = True) -> Image.Image:
    """RGB, y up in the world is up in the picture. pixels: its longer side; square: both sides, as the masks are."""
    canvas = _Canvas(view.scene.bounds, pixels * _SHARPER)
    canvas.image.paste(canvas.floor(view.reach))
    _goal(canvas, view.scene)
    for wall in view.scene.walls:
        canvas.box((wall.x, wall.y, wall.yaw), wall, WALL, WALL_EDGE)
    for place, (box, pose) in enumerate(zip(view.scene.movables, view.state.movables, strict=True)):
        pushed = view.push is not None and view.push.place == place
        colours = (PUSHED, PUSHED_EDGE) if pushed else (BOX, BOX_EDGE)
        canvas.box((float(pose[0]), float(pose[1]), float(pose[2])), box, *colours)
    for place, at in view.traces:
        canvas.outline(at, view.scene.movables[place], PUSHED)
    if view.push is not None:
        _ghost(canvas, view.scene.movables[view.push.place], view.state.movables[view.push.place], view.push.target)
    if len(view.path) > 1:
        canvas.dashed([canvas.at(x, y) for x, y in view.path], ROBOT, 1.6)
    robot = canvas.at(float(view.state.robot[0]), float(view.state.robot[1]))
    canvas.disc(robot, view.scene.robot_radius * canvas.scale, ROBOT, ROBOT_EDGE)
    if view.labels:
        for place, pose in enumerate(view.state.movables):
            if view.push is not None and view.push.place == place:
                continue  # its arrow is there
            canvas.label(canvas.at(float(pose[0]), float(pose[1])), str(place + 1))
    image = canvas.image.resize((pixels, pixels), Image.Resampling.LANCZOS)
    if square:
        return image
    width, height = size(view.scene, pixels)
    left, top = (pixels - width) // 2, (pixels - height) // 2
    return image.crop((left, top, left + width, top + height))


def size(scene: Scene, pixels: int) -> tuple[int, int]:
    """Width and height of a picture that is not made square, its longer side given."""
    x0, x1, y0, y1 = scene.bounds
    longer, border = max(x1 - x0, y1 - y0), 2 * _BORDER * pixels
    across, up = ((side / longer * (pixels - border)) + border for side in (x1 - x0, y1 - y0))
    return min(round(across), pixels), min(round(up), pixels)


def frame(scene: Scene, state: State, reach: Reach) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8[FRAME_PIXELS, FRAME_PIXELS, 3]: what is stored beside a step.

    It shows the state and nothing of the push, so that whoever learns from it does not see the answer.
    """
    return np.asarray(draw(View(scene, state, reach)), np.uint8)


def corners(pose: Pose, box: Box) -> list[tuple[float, float]]:
    """Of a box at a pose, in world coordinates [m], counter-clockwise."""
    x, y, yaw = pose
    cos, sin = math.cos(yaw), math.sin(yaw)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return [
        (x + cos * a * box.half_x - sin * b * box.half_y, y + sin * a * box.half_x + cos * b * box.half_y)
        for a, b in signs
    ]


def _goal(canvas: _Canvas, scene: Scene) -> None:
    at, radius = canvas.at(*scene.goal), max(scene.goal_tolerance * canvas.scale, canvas.unit * 3.5)
    canvas.disc(at, radius, GOAL_FILL, GOAL)
    canvas.disc(at, radius * 0.42, GOAL, GOAL)


def _ghost(canvas: _Canvas, box: Box, pose: Sequence[float], target: Pose) -> None:
    outline = [canvas.at(*corner) for corner in corners(target, box)]
    canvas.dashed([*outline, outline[0]], GHOST, 1.8)
    canvas.arrow(canvas.at(float(pose[0]), float(pose[1])), canvas.at(target[0], target[1]), GHOST)


class _Canvas:
    """Pixels, and how the world lies on them. unit: a three-hundredth of the side, for the width of lines."""

    def __init__(self, bounds: tuple[float, float, float, float], side: int) -> None:
        x0, x1, y0, y1 = bounds
        self.bounds, self.side = bounds, side
        self.scale = side * (1 - 2 * _BORDER) / max(x1 - x0, y1 - y0)
        self.unit = side / 300
        self._middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        self.image = Image.new("RGB", (side, side), OUTSIDE)
        self._draw = ImageDraw.Draw(self.image)

    def at(self, x: float, y: float) -> Pixel:
        """The pixel of a point of the world [m]."""
        return (
            self.side / 2 + (x - self._middle[0]) * self.scale,
            self.side / 2 - (y - self._middle[1]) * self.scale,
        )

    def floor(self, reach: Reach | None) -> Image.Image:
        """The floor, with what can be reached in another colour, and smooth edges between them."""
        x0, x1, y0, y1 = self.bounds
        left, top = self.at(x0, y1)
        right, bottom = self.at(x1, y0)
        made = Image.new("RGB", (self.side, self.side), OUTSIDE)
        made.paste(FLOOR, (round(left), round(top), round(right), round(bottom)))
        if reach is not None:
            grid = reach.wavefront.grid
            upper = self.at(grid.x0, grid.y0 + grid.rows * grid.resolution)
            corner = (round(upper[0]), round(upper[1]))
            for mask, colour in zip(self._reached(reach), (COVERED, REACHED), strict=True):
                made.paste(Image.new("RGB", mask.size, colour), corner, mask)
        return made

    def _reached(self, reach: Reach) -> tuple[Image.Image, Image.Image]:
        """Where the robot's body can be, and where its centre can be, as masks with smooth edges."""
        grid, radius = reach.wavefront.grid, reach.wavefront.scene.robot_radius
        away = np.full(reach.reached.shape, 1e9)
        if reach.reached.any():
            away = np.asarray(distance_transform_edt(~reach.reached))
        width, height = grid.columns * grid.resolution * self.scale, grid.rows * grid.resolution * self.scale

        def mask(within_m: float) -> Image.Image:
            # Distances are smooth where cells are not: the edge is drawn between the cells.
            field = Image.fromarray((within_m / grid.resolution - away[::-1] + 0.5).astype(np.float32))
            large = np.asarray(field.resize((round(width), round(height)), Image.Resampling.BICUBIC))
            return Image.fromarray((large > 0).astype(np.uint8) * 255)

        return mask(radius), mask(0.0)

    def box(self, pose: Pose, box: Box, fill: Colour, edge: Colour) -> None:
        """A box at a pose."""
        points = [self.at(*corner) for corner in corners(pose, box)]
        self._draw.polygon(points, fill=fill)
        self._draw.line([*points, points[0]], fill=edge, width=max(round(self.unit), 1), joint="curve")

    def outline(self, pose: Pose, box: Box, colour: Colour) -> None:
        """The edge of a box, thin."""
        points = [self.at(*corner) for corner in corners(pose, box)]
        self._draw.line([*points, points[0]], fill=colour, width=max(round(0.8 * self.unit), 1), joint="curve")

    def disc(self, centre: Pixel, radius: float, fill: Colour, edge: Colour) -> None:
        """A filled circle."""
        (x, y), width = centre, max(round(self.unit), 1)
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=edge, width=width)

    def dashed(self, points: Sequence[Pixel], colour: Colour, thickness: float) -> None:
        """A broken line through points; thickness in units."""
        dash, gap, width = 5 * self.unit, 3.5 * self.unit, max(round(thickness * self.unit), 1)
        left, on = dash, True
        for (x, y), (to_x, to_y) in pairwise(points):
            length = math.hypot(to_x - x, to_y - y)
            done = 0.0
            while done < length:
                step = min(left, length - done)
                if on:
                    a, b = done / length, (done + step) / length
                    ends = (x + a * (to_x - x), y + a * (to_y - y), x + b * (to_x - x), y + b * (to_y - y))
                    self._draw.line(ends, fill=colour, width=width)
                done, left = done + step, left - step
                if left <= 1e-6:
                    on = not on
                    left = dash if on else gap

    def arrow(self, start: Pixel, end: Pixel, colour: Colour) -> None:
        """From one point to another; nothing if they are too close for a head."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length, head = math.hypot(dx, dy), 6.5 * self.unit
        if length < 1.5 * head:
            return
        ux, uy = dx / length, dy / length
        neck = (end[0] - ux * head, end[1] - uy * head)
        self._draw.line((*start, *neck), fill=colour, width=max(round(2.2 * self.unit), 1))
        sides = [(neck[0] - uy * s * head * 0.55, neck[1] + ux * s * head * 0.55) for s in (1, -1)]
        self._draw.polygon([end, *sides], fill=colour)

    def label(self, centre: Pixel, text: str) -> None:
        """A small text, centred."""
        self._draw.text(centre, text, (70, 46, 14), _font(round(9.5 * self.unit)), anchor="mm")


@lru_cache(8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
