"""What every search promises, on worlds whose pushes are computed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.namo.plan_check import same_result
from producers.namo.search import FailureCode, SearchKey, SearchOptions, SearchResult, StopReason, search
from protocol.errors import ConfigurationError
from protocol.namo.scene import Box, Scene
from tests.producers.namo.sliding_world import SlidingWorld, movable, two_rooms

KEY = SearchKey(seed=1, environment=2, episode=3)
SMALL = SearchOptions(max_depth=3, max_goals_per_object=3)
CROWDED = two_rooms(movable(1, 1.2, 0.6), movable(2, 2.9, 1.5, (0.3, 0.4)))
# Behind the door there is a wall from side to side.
HOPELESS = two_rooms(walls=(Box("wall_6", 2.6, 1.5, 0.0, 0.05, 1.5),))


def plan_of(result: SearchResult) -> list[tuple[str, tuple[float, float, float]]]:
    return [(step.object, step.target) for step in result.plan]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """The two rooms with up to three more boxes, anywhere; boxes that overlap only make pushes fail."""
    spots = st.tuples(st.floats(0.4, 3.6), st.floats(0.4, 2.6))
    sizes = st.tuples(st.floats(0.1, 0.3), st.floats(0.1, 0.3))
    more = draw(st.lists(st.tuples(spots, sizes, st.floats(-3, 3)), max_size=2))
    boxes = [movable(number, *spot, size, yaw) for number, (spot, size, yaw) in enumerate(more, 1)]
    return two_rooms(*boxes, blocker=draw(st.floats(1.9, 2.1)))


@given(scenes(), st.integers(0, 2**32), st.sampled_from(["no_heuristic", "blocking_path", "goal_proximity"]),
       st.sampled_from(["random", "grid", "adaptive"]), st.sampled_from([0.0, 0.3]))  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_tree_finds_the_plan_of_idfs_and_never_expands_more(
    scene: Scene, seed: int, objects: str, goals: str, epsilon: float
) -> None:
    options = SearchOptions(object_strategy=objects, goal_strategy=goals, max_depth=2, max_goals_per_object=3,  # type: ignore[arg-type]
                            epsilon=epsilon)  # fmt: skip
    world, key = SlidingWorld(scene), SearchKey(seed, 0, 0)
    idfs = search(world, options, key)
    tree = search(world, replace(options, algorithm="tree_idfs"), key)
    assert plan_of(tree) == plan_of(idfs)
    assert (tree.stop_reason, tree.failure_code) == (idfs.stop_reason, idfs.failure_code)
    assert tree.nodes_expanded <= idfs.nodes_expanded
    assert tree.terminal_checks <= idfs.terminal_checks
    # The record is the same too: idfs simulates some pushes again, but records none twice.
    assert [(a.parent, a.object, a.target) for a in tree.attempts] == [
        (a.parent, a.object, a.target) for a in idfs.attempts
    ]
    assert tree.nodes_expanded == len(tree.attempts)


def test_a_plan_opens_the_goal_and_its_steps_follow_each_other() -> None:
    result = search(SlidingWorld(CROWDED), SMALL, KEY)
    assert result.stop_reason is StopReason.SOLVED
    assert result.solved
    assert result.failure_code is FailureCode.NONE
    assert result.plan[-1].result.goal_open
    for before, after in itertools.pairwise(result.plan):
        assert not before.result.goal_open
        assert before.result.after.key == after.result.before.key


def test_attempts_name_the_attempt_that_they_start_from() -> None:
    result = search(SlidingWorld(CROWDED), SMALL, KEY)
    assert [attempt.number for attempt in result.attempts] == list(range(len(result.attempts)))
    for attempt in result.attempts:
        assert attempt.parent < attempt.number
        before = result.attempts[attempt.parent] if attempt.parent >= 0 else None
        assert attempt.depth == 1 + (before.depth if before else 0)
        start = before.result.after if before else SlidingWorld(CROWDED).initial()
        assert attempt.result.before.key == start.key


def test_the_plan_is_one_of_the_attempts() -> None:
    result = search(SlidingWorld(CROWDED), SMALL, KEY)
    attempt = result.attempts[-1]
    for step in reversed(result.plan):
        assert (attempt.object, attempt.target) == (step.object, step.target)
        assert same_result(attempt.result, step.result)
        attempt = result.attempts[attempt.parent]


def test_a_goal_that_is_open_is_trivial() -> None:
    scene = two_rooms()
    result = search(SlidingWorld(replace_goal(scene, (0.6, 1.0))), SMALL, KEY)
    assert (result.stop_reason, result.failure_code, result.plan) == (StopReason.TRIVIAL, FailureCode.NONE, ())
    assert result.solved
    assert result.nodes_expanded == 0
    assert result.terminal_checks == 1


def replace_goal(scene: Scene, goal: tuple[float, float]) -> Scene:
    return Scene(scene.name, scene.bounds, scene.robot, goal, scene.walls, scene.movables)


@pytest.mark.parametrize("algorithm", ["idfs", "tree_idfs", "random_sampling"])
def test_failures_say_what_was_missing(algorithm: str) -> None:
    options = replace(SMALL, algorithm=algorithm, max_depth=2)  # type: ignore[arg-type]
    hopeless = search(SlidingWorld(HOPELESS), options, KEY)
    assert (hopeless.stop_reason, hopeless.failure_code) == (StopReason.EXHAUSTED, FailureCode.MAX_DEPTH)
    lonely = search(SlidingWorld(with_movables()), options, KEY)
    assert (lonely.stop_reason, lonely.failure_code) == (StopReason.EXHAUSTED, FailureCode.NO_REACHABLE_OBJECTS)
    # A box as wide as the robot's room: nothing moves it.
    wedged = search(SlidingWorld(with_movables(movable(1, 1.2, 1.5, (0.2, 1.44)))), options, KEY)
    assert (wedged.stop_reason, wedged.failure_code) == (StopReason.EXHAUSTED, FailureCode.EXECUTION_FAILED)
    assert wedged.nodes_expanded > 0


def with_movables(*movables: Box) -> Scene:
    """Without a way to the goal."""
    return Scene("other", HOPELESS.bounds, HOPELESS.robot, HOPELESS.goal, HOPELESS.walls, movables)


def test_a_tree_without_deeper_states_is_not_searched_again() -> None:
    deep = replace(SMALL, max_depth=50)
    assert search(SlidingWorld(with_movables()), deep, KEY).terminal_checks == 1


@pytest.mark.parametrize("algorithm", ["idfs", "tree_idfs", "random_sampling"])
def test_a_search_does_not_depend_on_what_ran_before(algorithm: str) -> None:
    options = replace(SMALL, algorithm=algorithm)  # type: ignore[arg-type]
    keys = [SearchKey(0, environment, episode) for environment in range(2) for episode in range(2)]
    world = SlidingWorld(CROWDED)
    forward = [plan_of(search(world, options, key)) for key in keys]
    backward = [plan_of(search(SlidingWorld(CROWDED), options, key)) for key in reversed(keys)]
    assert forward == backward[::-1]
    if algorithm == "idfs":
        assert len({str(plan) for plan in forward}) == len(keys)


def test_a_budget_that_does_not_fire_changes_nothing() -> None:
    free = search(SlidingWorld(CROWDED), SMALL, KEY)
    exact = replace(SMALL, max_pushes=free.primitives, max_terminal_checks=free.terminal_checks)
    ticks = itertools.count()
    bound = search(SlidingWorld(CROWDED), exact, KEY, clock=lambda: next(ticks) * 1e-6)
    assert plan_of(bound) == plan_of(free)
    assert bound.primitives == free.primitives


@pytest.mark.parametrize("algorithm", ["idfs", "tree_idfs", "random_sampling"])
@given(budget=st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_no_primitive_runs_beyond_max_pushes(algorithm: str, budget: int) -> None:
    world = SlidingWorld(HOPELESS)
    result = search(world, replace(SMALL, algorithm=algorithm, max_pushes=budget), KEY)  # type: ignore[arg-type]
    executed = sum(len(attempt.result.primitives) for attempt in result.attempts)
    assert result.primitives <= budget
    assert executed <= result.primitives
    if algorithm == "tree_idfs":
        assert executed == result.primitives
    if result.stop_reason is not StopReason.EXHAUSTED:
        assert result.stop_reason is StopReason.PUSH_BUDGET
        assert result.failure_code is FailureCode.MAX_PUSHES
        assert result.primitives == budget


class PrimitiveClock:
    """Seconds pass only while primitives run: one a primitive."""

    def __init__(self, world: SlidingWorld) -> None:
        self._world = world

    def __call__(self) -> float:
        return float(self._world.asked)


@pytest.mark.parametrize("algorithm", ["idfs", "tree_idfs"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0, 7.5])
def test_a_timeout_overshoots_by_one_primitive_at_most(algorithm: str, seconds: float) -> None:
    world = SlidingWorld(HOPELESS)
    options = replace(SMALL, algorithm=algorithm, search_timeout_s=seconds)  # type: ignore[arg-type]
    result = search(world, options, KEY, clock=PrimitiveClock(world))
    assert (result.stop_reason, result.failure_code) == (StopReason.TIMEOUT, FailureCode.TIMEOUT)
    assert result.primitives <= seconds + 1
    assert result.plan == ()


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_cancelled_search_runs_no_further_primitive(after: int) -> None:
    world = SlidingWorld(HOPELESS)
    result = search(world, SMALL, KEY, cancelled=lambda: world.asked > after)
    assert (result.stop_reason, result.failure_code) == (StopReason.CANCELLED, FailureCode.CANCELLED)
    assert result.primitives == after


@pytest.mark.parametrize("algorithm", ["idfs", "tree_idfs"])
@pytest.mark.parametrize("checks", [1, 2, 6])
def test_terminal_checks_are_bounded(algorithm: str, checks: int) -> None:
    result = search(SlidingWorld(HOPELESS), replace(SMALL, algorithm=algorithm, max_terminal_checks=checks), KEY)  # type: ignore[arg-type]
    assert (result.stop_reason, result.failure_code) == (StopReason.CHECK_BUDGET, FailureCode.MAX_TERMINAL_CHECKS)
    assert result.terminal_checks == checks


def test_a_push_that_was_cut_short_leads_nowhere() -> None:
    result = search(SlidingWorld(HOPELESS), replace(SMALL, max_pushes=2), KEY)
    assert result.attempts[-1].result.code == "budget"
    assert result.attempts[-1].number not in {attempt.parent for attempt in result.attempts}


def test_random_sampling_never_goes_back() -> None:
    for episode in range(10):
        result = search(
            SlidingWorld(CROWDED), replace(SMALL, algorithm="random_sampling", max_depth=6), SearchKey(0, 0, episode)
        )
        assert result.nodes_expanded <= 6
        assert all(np.diff([attempt.depth for attempt in result.attempts]) == 1)
        states = [attempt.result for attempt in result.attempts]
        for one, two in itertools.pairwise(states):
            moved = np.abs(one.after.movables - one.before.movables).max() >= 0.005
            assert two.before.key == (one.after if moved else one.before).key


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"algorithm": "best_first"}, "algorithm must be one of idfs"),
        ({"max_depth": 0}, "max_depth must be at least 1"),
        ({"max_pushes": 0}, "max_pushes must be at least 1"),
        ({"search_timeout_s": float("nan")}, "search_timeout_s must be more than 0"),
        ({"epsilon": 1.5}, "epsilon is a probability"),
        ({"goal_strategy": "ml"}, "give ml_goal_model"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SearchOptions(**wrong)  # type: ignore[arg-type]
