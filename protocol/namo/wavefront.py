"""Where the robot can go: the one answer that generator, planner, verifier and masks share.

The floor is a grid. A cell is free if a robot that stands in its centre touches no box. Cells reach each other over
their edges; a diagonal step would need both cells beside it, so it adds nothing to what is reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from protocol.namo.scene import Scene, State

RESOLUTION_M = 0.04
# The cell of a robot that stands against a box may count as taken; then it sets out from the nearest free one.
_SEED_RADIUS_M = 0.1

_KEPT_FOOTPRINTS = 2048

Window = tuple[slice, slice]
# Where a box keeps the robot's centre out: a window of the grid, and which of its cells.
Footprint = tuple[Window, NDArray[np.bool_]]


@dataclass(frozen=True)
class Grid:
    """Square cells of `resolution` metres: row 0 begins at y0, column 0 at x0."""

    x0: float
    y0: float
    rows: int
    columns: int
    resolution: float

    @staticmethod
    def over(bounds: tuple[float, float, float, float], resolution: float) -> Grid:
        """All of the bounds (x0, x1, y0, y1)."""
        x0, x1, y0, y1 = bounds
        return Grid(x0, y0, int(np.ceil((y1 - y0) / resolution)), int(np.ceil((x1 - x0) / resolution)), resolution)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell that holds a point; may lie outside."""
        return int(np.floor((y - self.y0) / self.resolution)), int(np.floor((x - self.x0) / self.resolution))

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """x, y of the centre of a cell [m]."""
        return self.x0 + (column + 0.5) * self.resolution, self.y0 + (row + 0.5) * self.resolution

    def inside(self, row: int, column: int) -> bool:
        """The cell exists."""
        return 0 <= row < self.rows and 0 <= column < self.columns

    def window(self, x: float, y: float, reach: float) -> Window:
        """The cells whose centres may lie within `reach` metres of a point, in x and in y."""
        r0, c0 = self.cell(x - reach, y - reach)
        r1, c1 = self.cell(x + reach, y + reach)
        return slice(max(r0, 0), max(r1 + 1, 0)), slice(max(c0, 0), max(c1 + 1, 0))

    def offsets(self, window: Window, x: float, y: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the centres of a window's cells from a point: dx float64[1, C], dy float64[R, 1]."""
        rows = np.arange(window[0].start, min(window[0].stop, self.rows))
        columns = np.arange(window[1].start, min(window[1].stop, self.columns))
        dx = self.x0 + (columns + 0.5) * self.resolution - x
        dy = self.y0 + (rows + 0.5) * self.resolution - y
        return dx[None, :], dy[:, None]

    def nearest(self, wanted: NDArray[np.bool_], x: float, y: float, radius: float) -> tuple[int, int] | None:
        """The cell of a point if it is wanted, else the nearest wanted one whose centre is within the radius."""
        row, column = self.cell(x, y)
        if self.inside(row, column) and wanted[row, column]:
            return row, column
        window = self.window(x, y, radius)
        dx, dy = self.offsets(window, x, y)
        distance2 = np.where(wanted[window], dx * dx + dy * dy, np.inf)
        if not distance2.size or distance2.min() > radius * radius:
            return None
        place = divmod(int(np.argmin(distance2)), distance2.shape[1])
        return place[0] + window[0].start, place[1] + window[1].start


class Wavefront:
    """The grid of one scene; what the walls take is drawn once."""

    def __init__(self, scene: Scene, resolution: float = RESOLUTION_M) -> None:
        self.scene = scene
        self.grid = Grid.over(scene.bounds, resolution)
        self.wall_rows = _rows([(w.x, w.y, w.yaw, w.half_x, w.half_y) for w in scene.walls])
        self._walls = np.zeros((self.grid.rows, self.grid.columns), np.bool_)
        for wall in scene.walls:
            window, covered = self._footprint((wall.x, wall.y, wall.yaw), (wall.half_x, wall.half_y))
            self._walls[window] |= covered
        self._footprints: dict[tuple[int, bytes], Footprint] = {}

    def blocked(self, state: State, without: Iterable[int] = ()) -> NDArray[np.bool_]:
        """bool[rows, columns]: where the robot's centre cannot be; without: places of movables to leave out."""
        taken, left_out = self._walls.copy(), set(without)
        for number, pose in enumerate(state.movables):
            if number not in left_out:
                window, covered = self._kept_footprint(number, pose)
                taken[window] |= covered
        return taken

    def reach(self, state: State, without: Iterable[int] = ()) -> Reach:
        """What the robot can get to from where it stands, with some movables taken away."""
        free = ~self.blocked(state, without)
        labels, _ = label(free)
        seed = self.grid.nearest(free, float(state.robot[0]), float(state.robot[1]), _SEED_RADIUS_M)
        return Reach(self, state, free, labels == labels[seed] if seed else np.zeros_like(free))

    def _kept_footprint(self, number: int, pose: NDArray[np.float64]) -> Footprint:
        """Of a movable. Most movables are where they were in the state that was asked about before."""
        key = (number, pose.tobytes())
        found = self._footprints.get(key)
        if found is None:
            if len(self._footprints) >= _KEPT_FOOTPRINTS:
                self._footprints.clear()
            box = self.scene.movables[number]
            found = self._footprints[key] = self._footprint(tuple(pose.tolist()), (box.half_x, box.half_y))
        return found

    def _footprint(self, pose: tuple[float, ...], half: tuple[float, float]) -> Footprint:
        x, y, yaw = pose
        radius = self.scene.robot_radius
        window = self.grid.window(x, y, float(np.hypot(*half)) + radius)
        dx, dy = self.grid.offsets(window, x, y)
        cos, sin = np.cos(yaw), np.sin(yaw)
        away_x = np.maximum(np.abs(cos * dx + sin * dy) - half[0], 0)
        away_y = np.maximum(np.abs(cos * dy - sin * dx) - half[1], 0)
        return window, np.less(away_x * away_x + away_y * away_y, radius * radius)


@dataclass(frozen=True)
class Reach:
    """What can be reached in one state. free, reached: bool[rows, columns] of the wavefront's grid."""

    wavefront: Wavefront
    state: State
    free: NDArray[np.bool_]
    reached: NDArray[np.bool_]

    def contains(self, x: float, y: float) -> bool:
        """The robot can get to the cell of this point."""
        row, column = self.wavefront.grid.cell(x, y)
        return self.wavefront.grid.inside(row, column) and bool(self.reached[row, column])

    def nearest(self, x: float, y: float, radius: float) -> tuple[int, int] | None:
        """The cell of a point if it is reached, else the nearest reached one whose centre is within the radius."""
        return self.wavefront.grid.nearest(self.reached, x, y, radius)

    def clearance(self, points: NDArray[np.float64], without: int | None = None) -> NDArray[np.float64]:
        """Exact distance of points float64[N, 2] to the nearest box, 0 inside; without: a movable to leave out [m]."""
        movables = self._movable_rows if without is None else np.delete(self._movable_rows, without, axis=0)
        rows = np.concatenate([movables, self.wavefront.wall_rows])
        if not len(rows):
            return np.full(len(points), np.inf)
        dx, dy = points[:, :1] - rows[:, 0], points[:, 1:] - rows[:, 1]
        cos, sin = np.cos(rows[:, 2]), np.sin(rows[:, 2])
        away_x = np.maximum(np.abs(cos * dx + sin * dy) - rows[:, 3], 0)
        away_y = np.maximum(np.abs(cos * dy - sin * dx) - rows[:, 4], 0)
        nearest: NDArray[np.float64] = np.hypot(away_x, away_y).min(axis=1)
        return nearest

    @cached_property
    def _movable_rows(self) -> NDArray[np.float64]:
        halves = [(box.half_x, box.half_y) for box in self.wavefront.scene.movables]
        return np.concatenate([self.state.movables, np.array(halves, np.float64).reshape(-1, 2)], axis=1)

    @cached_property
    def goal_open(self) -> bool:
        """Some reached cell's centre lies within the goal's tolerance."""
        scene, grid = self.wavefront.scene, self.wavefront.grid
        window = grid.window(*scene.goal, scene.goal_tolerance)
        dx, dy = grid.offsets(window, *scene.goal)
        near = dx * dx + dy * dy <= scene.goal_tolerance**2
        return bool((near & self.reached[window]).any())


def _rows(boxes: list[tuple[float, float, float, float, float]]) -> NDArray[np.float64]:
    """float64[N, 5]: x, y, yaw, half_x, half_y."""
    return np.array(boxes, np.float64).reshape(-1, 5)
