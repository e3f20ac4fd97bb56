"""Which movables stand in the way: the cheapest way to the goal if one could drive through them (Stilman's idea).

A strategy of the planners, and something that the models are told: one function for training and asking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from protocol.namo.wavefront import Reach

# What a step into a cell costs that a movable takes; a free one costs 1.
MOVABLE_COST = 4.0
_NO_PREDECESSOR = -9999


def first_hits(reach: Reach) -> tuple[str, ...]:
    """Names of the movables that the way from the robot to the goal crosses, in the order of the first contact.

    Empty if walls leave no way at all, or the robot stands nowhere.
    """
    wavefront = reach.wavefront
    everything = range(len(wavefront.scene.movables))
    walls = wavefront.blocked(reach.state, everything)
    start, goal = _nearest(reach, reach.reached, reach.state.robot), _nearest(reach, ~walls, wavefront.scene.goal)
    if start is None or goal is None:
        return ()
    way = _way(walls, reach.free, start, goal)
    taken = [wavefront.blocked(reach.state, [i for i in everything if i != one]) & ~walls for one in everything]
    hits: dict[str, None] = {}  # in the order of insertion
    for cell in way:
        for box, cells in zip(wavefront.scene.movables, taken, strict=True):
            if cells.flat[cell]:
                hits.setdefault(box.name)
    return tuple(hits)


def _nearest(reach: Reach, among: NDArray[np.bool_], point: NDArray[np.float64] | tuple[float, float]) -> int | None:
    """Flat number of the chosen cell whose centre is nearest to a point."""
    grid = reach.wavefront.grid
    rows, columns = np.nonzero(among)
    if not rows.size:
        return None
    dx = grid.x0 + (columns + 0.5) * grid.resolution - point[0]
    dy = grid.y0 + (rows + 0.5) * grid.resolution - point[1]
    place = int(np.argmin(dx * dx + dy * dy))
    return int(rows[place] * grid.columns + columns[place])


def _way(walls: NDArray[np.bool_], free: NDArray[np.bool_], start: int, goal: int) -> list[int]:
    """Flat numbers of the cells from start to goal, over the edges of cells, around the walls."""
    cost = np.where(free, 1.0, MOVABLE_COST)
    cells = np.arange(walls.size).reshape(walls.shape)
    tails, heads = [], []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        open_ = ~(walls[a] | walls[b])
        tails += [cells[a][open_], cells[b][open_]]
        heads += [cells[b][open_], cells[a][open_]]
    tail, head = np.concatenate(tails), np.concatenate(heads)
    graph = coo_array((cost.flat[head], (tail, head)), shape=(walls.size, walls.size)).tocsr()
    _, before = dijkstra(graph, indices=start, return_predecessors=True)
    way = [goal]
    while way[-1] != start:
        if before[way[-1]] == _NO_PREDECESSOR:
            return []
        way.append(int(before[way[-1]]))
    return way[::-1]
