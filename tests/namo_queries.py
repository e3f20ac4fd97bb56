"""Hypothesis strategies for NAMO queries: rooms of any size and place, boxes that may overlap."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from protocol.namo.masks import reached_bits
from protocol.namo.queries import Query
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront

# Few digits, so that a failing example can be read.
_share = st.integers(0, 1000).map(lambda n: n / 1000)


@st.composite
def boxes(draw: st.DrawFn, name: str, bounds: tuple[float, float, float, float]) -> Box:
    """A box whose centre lies within the bounds."""
    x0, x1, y0, y1 = bounds
    side = min(x1 - x0, y1 - y0)
    x, y = x0 + draw(_share) * (x1 - x0), y0 + draw(_share) * (y1 - y0)
    half_x, half_y = (0.02 + 0.15 * draw(_share)) * side, (0.02 + 0.15 * draw(_share)) * side
    return Box(name, x, y, (2 * draw(_share) - 1) * math.pi, half_x, half_y)


@st.composite
def queries(draw: st.DrawFn, max_movables: int = 12, max_samples: int = 40) -> Query:
    """Queries that pass `check_query`; some movables count as reachable, the masks' channel is the wavefront's."""
    x0, y0 = draw(st.integers(-5, 5)), draw(st.integers(-5, 5))
    bounds = (float(x0), x0 + 2 + 8 * draw(_share), float(y0), y0 + 2 + 8 * draw(_share))
    movables = tuple(
        draw(boxes(f"obstacle_{number}_movable", bounds)) for number in range(1, draw(st.integers(1, max_movables)) + 1)
    )
    walls = tuple(draw(boxes(f"wall_{number}", bounds)) for number in range(draw(st.integers(0, 3))))
    robot, goal = (
        (bounds[0] + draw(_share) * (bounds[1] - bounds[0]), bounds[2] + draw(_share) * (bounds[3] - bounds[2]))
        for _ in range(2)
    )
    scene = Scene("drawn", bounds, robot, goal, walls, movables)
    names = [box.name for box in movables]
    return Query(
        id=0,
        op="rank_and_sample",
        scene=scene,
        robot=robot,
        poses=tuple((box.x, box.y, box.yaw) for box in movables),
        reachable=tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True))),
        reached=reached_bits(Wavefront(scene).reach(State.initial(scene))),
        in_the_way=tuple(draw(st.lists(st.sampled_from(names), unique=True))),
        object=names[0],
        object_model="object",
        goal_model="goal",
        samples=draw(st.integers(1, max_samples)),
        goals=draw(st.integers(1, 8)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def permuted(query: Query, order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Query:
    """The same question with the movables in another order."""
    movables = tuple(query.scene.movables[i] for i in order)
    scene = Scene(
        query.scene.name, query.scene.bounds, query.scene.robot, query.scene.goal, query.scene.walls, movables
    )
    return Query(
        id=query.id,
        op=query.op,
        scene=scene,
        robot=query.robot,
        poses=tuple(query.poses[i] for i in order),
        reachable=query.reachable[::-1],
        reached=query.reached,
        in_the_way=query.in_the_way,
        object=query.object,
        object_model=query.object_model,
        goal_model=query.goal_model,
        samples=query.samples,
        goals=query.goals,
        seed=query.seed,
    )
