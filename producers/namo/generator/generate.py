"""A scene from (template, difficulty, seed, index): the same on every machine, whatever was made before it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from producers.namo import boxes
from producers.namo.errors import SceneError
from producers.namo.generator import placing
from producers.namo.generator.difficulty import DIFFICULTIES
from producers.namo.generator.draws import Draws
from producers.namo.generator.templates import TEMPLATES
from producers.namo.regions import Regions, hops
from protocol.namo.edges import reachable_edges
from protocol.namo.scene import Box, Point, Scene, State
from protocol.namo.wavefront import Grid, Reach, Wavefront

# From the robot's and the goal's centre to the next box, and between the two [m].
CLEARANCE_M, DISTANCE_M = 0.3, 1.0
_ATTEMPTS = 2000
_PAIRS = 8
# After so many floors without one that has them, one boundary fewer is wanted: not every template has room for three.
_PATIENCE = 25
_DIGITS, _BOUNDS_DIGITS = 4, 9


@dataclass(frozen=True)
class Made:
    """An accepted scene. hops: boundaries between robot and goal; attempts: floors that were drawn for it."""

    scene: Scene
    hops: int
    attempts: int


def generate(template: str, difficulty: str, seed: int, index: int) -> Made:
    """The scene of an index ≥ 0. Raises SceneError if none was accepted, which is not known to happen."""
    level, layout_of = DIFFICULTIES[difficulty], TEMPLATES[template]
    draws = Draws(seed, list(TEMPLATES).index(template), level.number, index)
    name = f"{template}/{difficulty}/{index}"
    wanted = draws.weighted(level.hops) + 1
    for attempt in range(1, _ATTEMPTS + 1):
        if attempt % _PATIENCE == 0:
            wanted = max(wanted - 1, 1)
        layout = layout_of(draws, level)
        walls = placing.walls(layout)
        movables = placing.movables(draws, level, layout, boxes.rows(walls), wanted)
        if movables is None:
            continue
        found = _with_robot_and_goal(draws, Scene(name, _bounds(walls), (0, 0), (0, 0), walls, movables), wanted)
        if found is not None:
            return Made(*found, attempt)
    raise SceneError(
        f"scene {name} of seed {seed}: expected one of {_ATTEMPTS} random floors to be accepted, found none; "
        "use another seed, and please report this one"
    )


def _bounds(walls: tuple[Box, ...]) -> tuple[float, float, float, float]:
    x0, x1, y0, y1 = (round(side, _BOUNDS_DIGITS) for side in boxes.bounds(boxes.rows(walls)))
    return x0, x1, y0, y1


def _with_robot_and_goal(draws: Draws, empty: Scene, wanted: int) -> tuple[Scene, int] | None:
    """The scene with robot and goal, and the boundaries between them, at least `wanted`."""
    wavefront, state = Wavefront(empty), State.initial(empty)
    # Half a cell more each way, as a point is drawn anywhere in its cell.
    roomy = msgspec.structs.replace(empty, robot_radius=CLEARANCE_M + wavefront.grid.resolution)
    cells = np.argwhere(~Wavefront(roomy).blocked(state))
    if len(cells) == 0:
        return None
    regions = Regions(wavefront, state)
    for _ in range(_PAIRS):
        pair = _pair(draws, wavefront.grid, regions, cells, wanted)
        if pair is not None:
            scene = msgspec.structs.replace(empty, robot=pair[0], goal=pair[1])
            between = hops(Wavefront(scene), State.initial(scene)) if accepted(scene) else None
            if between is not None and between >= wanted:
                return scene, between
    return None


def accepted(scene: Scene) -> bool:
    """The goal is not reachable, would be without the movables, and some movable can be got at."""
    wavefront, state = Wavefront(scene), State.initial(scene)
    reach: Reach = wavefront.reach(state)
    if reach.goal_open or not wavefront.reach(state, range(len(scene.movables))).goal_open:
        return False
    placed = zip(scene.movables, state.movables.tolist(), strict=True)
    return any(reachable_edges(reach, box, (x, y, yaw)).any() for box, (x, y, yaw) in placed)


def _pair(
    draws: Draws, grid: Grid, regions: Regions, cells: NDArray[np.intp], wanted: int
) -> tuple[Point, Point] | None:
    """Robot and goal with at least `wanted` boundaries between them, and far enough apart."""
    start = cells[draws.integer(0, len(cells) - 1)]
    robot = _in_cell(draws, grid, start)
    from_robot = regions.hops_from(regions.labels[start[0], start[1]])
    behind = from_robot[regions.labels[cells[:, 0], cells[:, 1]]] >= wanted
    x, y = (cells[:, ::-1] + 0.5).T * grid.resolution
    away = np.hypot(x + grid.x0 - robot[0], y + grid.y0 - robot[1])
    ends = cells[behind & (away >= DISTANCE_M + grid.resolution)]
    if len(ends) == 0:
        return None
    return robot, _in_cell(draws, grid, ends[draws.integer(0, len(ends) - 1)])


def _in_cell(draws: Draws, grid: Grid, cell: NDArray[np.intp]) -> Point:
    x, y = grid.centre(int(cell[0]), int(cell[1]))
    half = grid.resolution / 2
    return round(x + draws.uniform(-half, half), _DIGITS), round(y + draws.uniform(-half, half), _DIGITS)
