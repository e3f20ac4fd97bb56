"""In which order a planner tries the movables that the robot can push."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from producers.namo.options import ObjectStrategy
from producers.namo.outcome import SearchWorld
from protocol.namo.blocking_path import first_hits
from protocol.namo.scene import State

Names = tuple[str, ...]


def order_objects(strategy: ObjectStrategy, world: SearchWorld, state: State, names: Names) -> Names:
    """The names, best first; equal ones stay in the given order. `ml` is not among these strategies."""
    if strategy == "no_heuristic":
        return names
    if strategy == "blocking_path":
        return _blocking_first(world, state, names)
    sign, point = {
        "nearest_first": (1, state.robot),
        "farthest_first": (-1, state.robot),
        "goal_proximity": (1, np.array(world.scene.goal)),
    }[strategy]
    far = _distances(world, state, names, point)
    return tuple(sorted(names, key=lambda name: sign * far[name]))


def mix_order(names: Names, epsilon: float, rng: np.random.Generator) -> Names:
    """At each place, with probability epsilon, any of the names that are left instead of the next one."""
    left, order = list(names), []
    while left:
        place = int(rng.integers(len(left))) if rng.random() < epsilon else 0
        order.append(left.pop(place))
    return tuple(order)


def _distances(world: SearchWorld, state: State, names: Sequence[str], point: NDArray[np.float64]) -> dict[str, float]:
    """From a point to the centres of movables [m]."""
    return {name: float(np.hypot(*(state.movables[world.scene.place(name), :2] - point))) for name in names}


def _blocking_first(world: SearchWorld, state: State, names: Names) -> Names:
    """Those on the cheapest way to the goal by the order in which it meets them, then the others, nearest first."""
    hits = first_hits(world.reach(state))
    rank = {name: number for number, name in enumerate(hits)}
    far = _distances(world, state, names, state.robot)
    return tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), 0.0 if name in rank else far[name])))
