"""Goals: where they lie, and that the streams are what they are keyed by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.namo.goal_strategies import FARTHEST_M, GRID_DISTANCES_M, NEAREST_M, GoalDrawer, angle
from producers.namo.outcome import Target
from producers.namo.streams import SearchKey, number, stream
from protocol.namo.scene import Scene, State
from tests.producers.namo.sliding_world import movable, two_rooms

SCENE = two_rooms(movable(1, 0.6, 0.6, (0.3, 0.1), 0.4))
NAME, POSE = "obstacle_1_movable", (0.6, 0.6, 0.4)
STATE = State.initial(SCENE)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def polar(goal: Target) -> tuple[float, float]:
    dx, dy = goal[0] - POSE[0], goal[1] - POSE[1]
    return math.hypot(dx, dy), math.atan2(dy, dx)


def test_random_goals_lie_around_the_object_with_any_yaw() -> None:
    goals = GoalDrawer(SCENE).draw("random", STATE, NAME, 2000, rng())
    distances, directions = zip(*map(polar, goals), strict=True)
    yaws = [goal[2] for goal in goals]
    assert NEAREST_M <= min(distances) < NEAREST_M + 0.02
    assert FARTHEST_M - 0.02 < max(distances) <= FARTHEST_M
    for angles in (directions, yaws):
        counts, _ = np.histogram(angles, bins=8, range=(-math.pi, math.pi))
        assert counts.min() > 180  # 250 expected
    assert abs(np.corrcoef(directions, yaws)[0, 1]) < 0.1


@pytest.mark.parametrize("strategy", ["random", "grid", "adaptive"])
def test_legacy_goals_are_turned_the_way_they_lie(strategy: str) -> None:
    goals = GoalDrawer(SCENE, legacy_theta=True).draw(strategy, STATE, NAME, 10, rng())  # type: ignore[arg-type]
    assert len(goals) > 2
    for goal in goals:
        assert math.cos(goal[2] - polar(goal)[1]) == pytest.approx(1.0)


def test_the_grid_has_every_combination_once_and_keeps_the_yaw() -> None:
    goals = GoalDrawer(SCENE).draw("grid", STATE, NAME, 100, rng())
    places = {(round(distance, 6), round(direction / (math.pi / 4)) % 8) for distance, direction in map(polar, goals)}
    assert places == {(distance, way) for distance in GRID_DISTANCES_M for way in range(8)}
    assert len(goals) == 16
    assert [goal[2] for goal in goals] == pytest.approx([POSE[2]] * 16)


def test_a_cut_grid_is_shuffled_first() -> None:
    drawer = GoalDrawer(SCENE)
    cuts = [drawer.draw("grid", STATE, NAME, 5, rng(seed)) for seed in range(200)]
    assert all(len(set(cut)) == 5 for cut in cuts)
    assert len({goal for cut in cuts for goal in cut}) == 16


def test_adaptive_goals_are_where_the_box_fits() -> None:
    drawer = GoalDrawer(SCENE)
    box = SCENE.movables[1]
    goals = drawer.draw("adaptive", STATE, NAME, 200, rng())
    assert len(goals) == 200
    assert all(drawer.fits(box, goal) for goal in goals)
    assert not all(drawer.fits(box, goal) for goal in drawer.draw("random", STATE, NAME, 200, rng()))


@pytest.mark.parametrize(
    ("goal", "fits"),
    [
        ((0.6, 0.6, 0.0), True),
        ((0.36, 0.6, 0.0), True),  # its left side at 0.06, the wall's at 0.05
        ((0.34, 0.6, 0.0), False),
        ((0.36, 0.6, math.pi / 2), True),
        ((0.17, 0.6, math.pi / 2), True),
        ((1.6, 0.6, 0.0), True),
        ((1.7, 0.6, 0.0), False),  # the wall between the rooms
        ((2.0, 1.5, 0.0), True),  # in its door
        ((2.0, 1.3, math.pi / 2), False),
        ((-1.0, 0.6, 0.0), False),  # outside
    ],
)
def test_a_box_fits_where_it_touches_nothing(goal: Target, fits: bool) -> None:
    assert GoalDrawer(SCENE).fits(SCENE.movables[1], goal) is fits


def test_adaptive_gives_up_where_nothing_fits() -> None:
    crammed = Scene("crammed", SCENE.bounds, SCENE.robot, SCENE.goal, SCENE.walls, (movable(1, 1.0, 1.5, (1.2, 1.2)),))
    assert GoalDrawer(crammed).draw("adaptive", State.initial(crammed), NAME, 5, rng()) == []


@given(st.floats(-1e4, 1e4))
def test_angles_are_brought_into_one_turn(radians: float) -> None:
    assert -math.pi <= angle(radians) <= math.pi
    assert math.cos(angle(radians) - radians) == pytest.approx(1.0, abs=1e-6)


KEY = SearchKey(1, 2, 3)


def test_streams_differ_in_whatever_their_names_differ_in() -> None:
    draws = [
        float(stream(*args).random())  # type: ignore[arg-type]
        for args in [
            (KEY, "goals", (), "a"),
            (KEY, "goals", (), "b"),
            (KEY, "objects", (), "a"),
            (KEY, "goals", (("a", 0),), "a"),
            (KEY, "goals", (("a", 1),), "a"),
            (KEY, "goals", (("a", 1), ("a", 0)), "a"),
            (KEY, "goals", (("a", 0), ("a", 1)), "a"),
            (SearchKey(0, 2, 3), "goals", (), "a"),
            (SearchKey(1, 0, 3), "goals", (), "a"),
            (SearchKey(1, 2, 0), "goals", (), "a"),
        ]
    ]
    assert len(set(draws)) == len(draws)


def test_streams_are_the_same_on_every_machine() -> None:
    # Written down once: a change would give every recorded seed another meaning.
    assert stream(KEY, "goals", (("a", 0),), "b").integers(2**32, size=2).tolist() == [3077189363, 834464046]
    assert number(KEY, "query", (("a", 0),), "b") == 8748828100177138041


def test_query_seeds_fit_into_a_query() -> None:
    assert all(0 <= number(KEY, "query", (), str(i)) < 2**63 for i in range(200))
