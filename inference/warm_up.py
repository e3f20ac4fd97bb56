"""Queries that mean nothing: for warming up a model and for measuring it."""

from __future__ import annotations

import numpy as np

from protocol.namo.blocking_path import first_hits
from protocol.namo.masks import reached_bits
from protocol.namo.queries import Query
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront

_SIDE_M, _WALL_M = 6.0, 0.05


def example_queries(count: int, movables: int = 10, samples: int = 32) -> list[Query]:
    """Square rooms with boxes at random, which may overlap; the same ones for the same numbers."""
    return [_query(np.random.default_rng(number), number, movables, samples) for number in range(count)]


def _query(rng: np.random.Generator, number: int, movables: int, samples: int) -> Query:
    half = _SIDE_M / 2
    sides = (
        (-half, 0.0, _WALL_M, half),
        (half, 0.0, _WALL_M, half),
        (0.0, -half, half, _WALL_M),
        (0.0, half, half, _WALL_M),
    )
    walls = tuple(Box(f"wall_{i}", x, y, 0.0, hx, hy) for i, (x, y, hx, hy) in enumerate(sides, 1))
    boxes = tuple(
        Box(f"obstacle_{i}_movable", *rng.uniform((-2.4, -2.4, -3.1, 0.2, 0.2), (2.4, 2.4, 3.1, 0.5, 0.5)).tolist())
        for i in range(1, movables + 1)
    )
    robot, goal = rng.uniform(-2.5, 2.5, (2, 2)).tolist()
    scene = Scene(f"example {number}", (-half, half, -half, half), tuple(robot), tuple(goal), walls, boxes)
    reach = Wavefront(scene).reach(State.initial(scene))
    names = tuple(box.name for box in boxes)
    return Query(
        id=number,
        op="rank_and_sample",
        scene=scene,
        robot=scene.robot,
        poses=tuple((box.x, box.y, box.yaw) for box in boxes),
        reachable=names[: max(1, movables // 2)],
        reached=reached_bits(reach),
        in_the_way=first_hits(reach),
        object=names[0],
        object_model="object",
        goal_model="goal",
        samples=samples,
        seed=number,
    )
