"""Free regions of a floor, and how many boundaries of movables lie between robot and goal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from protocol.namo.scene import State
from protocol.namo.wavefront import Wavefront


def hops(wavefront: Wavefront, state: State) -> int | None:
    """Boundaries between regions that the robot has to get through, at least; None if walls alone are in the way.

    A boundary is a connected set of cells that movables take. 0: the goal is reachable as things stand.
    """
    reach = wavefront.reach(state)
    open_floor = ~wavefront.blocked(state, range(len(wavefront.scene.movables)))
    taken, reached = open_floor & ~reach.free, reach.reached
    for count in range(int(reach.free.size)):
        if _goal_in(wavefront, reached):
            return count
        through = _spread(reached, taken)
        wider = reached | _spread(through, reach.free)
        if np.array_equal(wider, reached):
            return None
        reached = wider
    return None


def _spread(seeds: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What of `within` is connected to the seeds or next to them."""
    start = binary_dilation(seeds) & within
    return np.asarray(binary_dilation(start, iterations=0, mask=within))


def _goal_in(wavefront: Wavefront, cells: NDArray[np.bool_]) -> bool:
    scene, grid = wavefront.scene, wavefront.grid
    window = grid.window(*scene.goal, scene.goal_tolerance)
    dx, dy = grid.offsets(window, *scene.goal)
    return bool(((dx * dx + dy * dy <= scene.goal_tolerance**2) & cells[window]).any())
