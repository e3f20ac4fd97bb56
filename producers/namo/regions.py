"""Free regions of a floor, and how many boundaries of movables lie between robot and goal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from protocol.namo.scene import State
from protocol.namo.wavefront import Wavefront

UNREACHABLE = -1


class Regions:
    """Connected free cells (regions) and connected cells that movables take (boundaries).

    labels: int32[rows, columns], the region of each cell, 0: not free.
    """

    def __init__(self, wavefront: Wavefront, state: State) -> None:
        free = ~wavefront.blocked(state)
        open_floor = ~wavefront.blocked(state, range(len(wavefront.scene.movables)))
        self.labels, self.count = label(free)
        boundaries, most = label(open_floor & ~free)
        self._touch = np.zeros((self.count + 1, most + 1), np.bool_)
        for one, other in (
            (np.s_[1:], np.s_[:-1]),
            (np.s_[:-1], np.s_[1:]),
            (np.s_[:, 1:], np.s_[:, :-1]),
            (np.s_[:, :-1], np.s_[:, 1:]),
        ):
            self._touch[self.labels[one], boundaries[other]] = True
        self._touch[0] = self._touch[:, 0] = False

    def hops_from(self, starts: NDArray[np.int32]) -> NDArray[np.intp]:
        """int[regions + 1]: boundaries between the start regions and each; UNREACHABLE: walls are."""
        hops = np.full(self.count + 1, UNREACHABLE)
        reached = np.zeros(self.count + 1, np.bool_)
        reached[starts] = True
        reached[0] = False
        hops[reached], so_far = 0, 0
        while reached.any():
            so_far += 1
            through = self._touch[reached].any(axis=0)
            reached = self._touch[:, through].any(axis=1) & (hops == UNREACHABLE)
            hops[reached] = so_far
        return hops


def hops(wavefront: Wavefront, state: State) -> int | None:
    """Boundaries that the robot has to get through to its goal, at least; None if walls alone are in the way.

    0: the goal is reachable as things stand.
    """
    regions, scene, grid = Regions(wavefront, state), wavefront.scene, wavefront.grid
    from_robot = regions.hops_from(np.unique(regions.labels[wavefront.reach(state).reached]))
    window = grid.window(*scene.goal, scene.goal_tolerance)
    dx, dy = grid.offsets(window, *scene.goal)
    at_goal = from_robot[regions.labels[window][dx * dx + dy * dy <= scene.goal_tolerance**2]]
    return int(at_goal[at_goal != UNREACHABLE].min()) if (at_goal != UNREACHABLE).any() else None
