"""One picture of many scenes from above, so that a person can judge a set at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from producers.namo import boxes
from producers.namo.scenes import LoadedScene
from protocol.namo.scene import Point, Scene, State
from protocol.namo.wavefront import Wavefront

# All lengths in pixels.
TILE, GAP, LABEL, COLUMNS = 300, 12, 20, 4
_SCALE = 2  # drawn larger and reduced, for smooth edges
_BACKGROUND, _FLOOR, _REACHED = (24, 25, 28), (238, 238, 234), (205, 226, 208)
_WALL, _MOVABLE, _OUTLINE = (74, 78, 86), (232, 186, 92), (150, 110, 36)
_ROBOT, _GOAL, _TEXT = (58, 108, 190), (196, 62, 62), (200, 202, 208)


def contact_sheet(scenes: Sequence[LoadedScene]) -> Image.Image:
    """Tiles of the scenes: walls, boxes, what the robot can reach (green), robot (blue), goal (red)."""
    columns = min(COLUMNS, max(len(scenes), 1))
    rows = -(-len(scenes) // columns)
    step = TILE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * (step + LABEL) + GAP), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, loaded in enumerate(scenes):
        left, top = GAP + number % columns * step, GAP + number // columns * (step + LABEL)
        sheet.paste(top_view(loaded.scene), (left, top))
        hops = f" · {loaded.meta.hops} hops" if loaded.meta.hops >= 0 else ""
        draw.text((left, top + TILE + 3), f"{loaded.scene.name}{hops}", _TEXT, font)
    return sheet


def top_view(scene: Scene) -> Image.Image:
    """TILE × TILE pixels, y up, the larger side of the bounds fills the tile."""
    view = _View(scene)
    view.fill(_reached(scene), _REACHED)
    for row in boxes.corners(boxes.rows(scene.movables)):
        view.polygon(row, _MOVABLE, _OUTLINE)
    for row in boxes.corners(boxes.rows(scene.walls)):
        view.polygon(row, _WALL, None)
    view.disc(scene.robot, scene.robot_radius, _ROBOT)
    view.ring(scene.goal, scene.goal_tolerance, _GOAL)
    return view.image()


def _reached(scene: Scene) -> list[tuple[float, float, float]]:
    """x, y and side of the cells that the robot can reach."""
    reach = Wavefront(scene).reach(State.initial(scene))
    grid = reach.wavefront.grid
    places = np.argwhere(reach.reached).tolist()
    return [(*grid.centre(row, column), grid.resolution) for row, column in places]


class _View:
    """A tile that is drawn in metres."""

    def __init__(self, scene: Scene) -> None:
        x0, x1, y0, y1 = scene.bounds
        side = max(x1 - x0, y1 - y0)
        self._per_m = TILE * _SCALE / side
        self._x0, self._y1 = (x0 + x1 - side) / 2, (y0 + y1 + side) / 2
        self._image = Image.new("RGB", (TILE * _SCALE, TILE * _SCALE), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)
        self._draw.rectangle((*self._at(x0, y1), *self._at(x1, y0)), _FLOOR)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._x0) * self._per_m, (self._y1 - y) * self._per_m

    def fill(self, cells: Sequence[tuple[float, float, float]], colour: tuple[int, int, int]) -> None:
        for x, y, side in cells:
            self._draw.rectangle((*self._at(x - side / 2, y + side / 2), *self._at(x + side / 2, y - side / 2)), colour)

    def polygon(
        self, points: NDArray[np.float64], colour: tuple[int, int, int], outline: tuple[int, int, int] | None
    ) -> None:
        self._draw.polygon([self._at(*point) for point in points.tolist()], colour, outline, width=_SCALE)

    def disc(self, centre: Point, radius: float, colour: tuple[int, int, int]) -> None:
        self._draw.circle(self._at(*centre), radius * self._per_m, colour)

    def ring(self, centre: Point, radius: float, colour: tuple[int, int, int]) -> None:
        self._draw.circle(self._at(*centre), radius * self._per_m, None, colour, width=3 * _SCALE)
        self._draw.circle(self._at(*centre), 3 * _SCALE, colour)

    def image(self) -> Image.Image:
        return self._image.resize((TILE, TILE), Image.Resampling.LANCZOS)
