"""The order of objects in a scene made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from producers.namo.object_strategies import mix_order, order_objects
from producers.namo.options import ObjectStrategy
from protocol.namo.blocking_path import first_hits
from protocol.namo.scene import Box, Scene
from tests.producers.namo.sliding_world import SlidingWorld, frame, movable, two_rooms

# Along the middle of a corridor, 8 m × 2 m: robot at x = 1, goal at x = 7; boxes from wall to wall block the way.
#   robot(1)   obstacle_2 (2.0, aside)   obstacle_0 (3.0, across)   obstacle_1 (5.5, across)   goal (7)
CORRIDOR = Scene(
    "corridor",
    (0.0, 8.0, 0.0, 2.0),
    (1.0, 1.0),
    (7.0, 1.0),
    frame(8.0, 2.0),
    (movable(0, 3.0, 1.0, (0.2, 0.9)), movable(1, 5.5, 1.0, (0.2, 0.9)), movable(2, 2.0, 1.7, (0.2, 0.15))),
)
NAMES = tuple(box.name for box in CORRIDOR.movables)


def order(strategy: ObjectStrategy, scene: Scene = CORRIDOR) -> list[int]:
    world = SlidingWorld(scene)
    names = tuple(box.name for box in scene.movables)
    return [names.index(name) for name in order_objects(strategy, world, world.initial(), names)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("no_heuristic", [0, 1, 2]),
        ("nearest_first", [2, 0, 1]),
        ("farthest_first", [1, 0, 2]),
        ("goal_proximity", [1, 0, 2]),
        ("blocking_path", [0, 1, 2]),  # those across the way as it meets them, then the one aside
    ],
)
def test_the_corridor(strategy: ObjectStrategy, expected: list[int]) -> None:
    assert order(strategy) == expected


def test_the_others_follow_the_blocking_ones_nearest_first() -> None:
    scene = two_rooms(movable(1, 1.0, 0.4, (0.1, 0.1)), movable(2, 0.6, 2.2, (0.1, 0.1)))
    assert order("blocking_path", scene) == [0, 2, 1]


def test_equal_distances_keep_the_order_of_the_scene() -> None:
    scene = two_rooms(movable(1, 0.9, 1.0, (0.1, 0.1)), movable(2, 0.9, 2.0, (0.1, 0.1)))
    assert order("nearest_first", scene) == [1, 2, 0]


def test_a_cheap_way_around_a_box_is_no_hit() -> None:
    scene = two_rooms(movable(1, 1.2, 1.5, (0.1, 0.1)))
    world = SlidingWorld(scene)
    assert first_hits(world.reach(world.initial())) == ("obstacle_0_movable",)


def test_walls_all_around_leave_no_way() -> None:
    scene = two_rooms(walls=(Box("wall_6", 2.6, 1.5, 0.0, 0.05, 1.5),))
    world = SlidingWorld(scene)
    assert first_hits(world.reach(world.initial())) == ()
    assert order("blocking_path", scene) == [0]


def test_the_order_follows_the_boxes_when_they_have_moved() -> None:
    world = SlidingWorld(CORRIDOR)
    state = world.initial()
    state.movables[[0, 1], 0] = [5.5, 3.0]
    assert order_objects("blocking_path", world, state, NAMES) == (NAMES[1], NAMES[0], NAMES[2])
    assert order_objects("nearest_first", world, state, NAMES) == (NAMES[2], NAMES[1], NAMES[0])


def test_epsilon_mixes_random_places_in() -> None:
    names = tuple("abcdef")
    assert mix_order(names, 0.0, np.random.default_rng(0)) == names
    mixed = [mix_order(names, 1.0, np.random.default_rng(seed)) for seed in range(300)]
    assert all(sorted(one) == sorted(names) for one in mixed)
    first = [one[0] for one in mixed]
    assert all(20 <= first.count(name) <= 90 for name in names)  # 50 expected
    little = [mix_order(names, 0.1, np.random.default_rng(seed))[0] for seed in range(300)]
    assert 250 <= little.count("a") <= 295  # 275 expected
