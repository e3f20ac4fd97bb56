"""A scene from (template, difficulty, seed, index): the same on every machine, whatever was made before it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from producers.namo import boxes
from producers.namo.edges import reachable_edges
from producers.namo.errors import SceneError
from producers.namo.generator import placing
from producers.namo.generator.difficulty import DIFFICULTIES
from producers.namo.generator.draws import Draws
from producers.namo.generator.templates import TEMPLATES
from producers.namo.regions import hops
from protocol.namo.scene import Box, Point, Scene, State
from protocol.namo.wavefront import Reach, Wavefront

# From the robot's and the goal's centre to the next box, and between the two [m].
CLEARANCE_M, DISTANCE_M = 0.3, 1.0
_ATTEMPTS = 2000
_PAIRS = 6
_DIGITS = 4


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
    for attempt in range(1, _ATTEMPTS + 1):
        layout = layout_of(draws, level)
        walls = placing.walls(layout)
        movables = placing.movables(draws, level, layout, boxes.rows(walls))
        if movables is None:
            continue
        scene = _with_robot_and_goal(draws, name, walls, movables)
        if scene is not None:
            between = hops(Wavefront(scene), State.initial(scene))
            assert between is not None  # the goal is reachable without the movables
            return Made(scene, between, attempt)
    raise SceneError(
        f"scene {name} of seed {seed}: expected one of {_ATTEMPTS} random floors to be accepted, found none; "
        "use another seed, and please report this one"
    )


def _with_robot_and_goal(draws: Draws, name: str, walls: tuple[Box, ...], movables: tuple[Box, ...]) -> Scene | None:
    bounds = boxes.bounds(boxes.rows(walls))
    bounds = (round(bounds[0], 9), round(bounds[1], 9), round(bounds[2], 9), round(bounds[3], 9))
    empty = Scene(name, bounds, (0.0, 0.0), (0.0, 0.0), walls, movables)
    wavefront = Wavefront(empty)
    # Half a cell more, as a point is drawn anywhere in its cell.
    roomy = msgspec.structs.replace(empty, robot_radius=CLEARANCE_M + wavefront.grid.resolution)
    clear = ~Wavefront(roomy).blocked(State.initial(empty))
    regions, _ = label(~wavefront.blocked(State.initial(empty)))
    cells = np.argwhere(clear)
    if len(cells) == 0 or len(np.unique(regions[clear])) < 2:
        return None
    for _ in range(_PAIRS):
        pair = _pair(draws, wavefront, regions, cells)
        if pair is not None:
            scene = msgspec.structs.replace(empty, robot=pair[0], goal=pair[1])
            if accepted(scene):
                return scene
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
    draws: Draws, wavefront: Wavefront, regions: NDArray[np.int32], cells: NDArray[np.intp]
) -> tuple[Point, Point] | None:
    """Robot and goal in different regions and far enough apart."""
    start = cells[draws.integer(0, len(cells) - 1)]
    robot = _in_cell(draws, wavefront, start)
    x, y = (cells[:, ::-1] + 0.5).T * wavefront.grid.resolution
    away = np.hypot(x + wavefront.grid.x0 - robot[0], y + wavefront.grid.y0 - robot[1])
    elsewhere = regions[cells[:, 0], cells[:, 1]] != regions[start[0], start[1]]
    ends = cells[elsewhere & (away >= DISTANCE_M + wavefront.grid.resolution)]
    if len(ends) == 0:
        return None
    return robot, _in_cell(draws, wavefront, ends[draws.integer(0, len(ends) - 1)])


def _in_cell(draws: Draws, wavefront: Wavefront, cell: NDArray[np.intp]) -> Point:
    x, y = wavefront.grid.centre(int(cell[0]), int(cell[1]))
    half = wavefront.grid.resolution / 2
    return round(x + draws.uniform(-half, half), _DIGITS), round(y + draws.uniform(-half, half), _DIGITS)
