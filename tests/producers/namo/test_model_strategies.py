"""Planners that follow models, through askers in the same process."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest

from producers.namo.search import FailureCode, SearchKey, SearchOptions, SearchResult, StopReason, search
from producers.query_client import QueryClient, QueryClientConfig
from protocol.errors import ConfigurationError
from protocol.namo.blocking_path import first_hits
from protocol.namo.masks import reached_bits
from protocol.namo.queries import Answer, PushGoal, Query
from protocol.namo.scene import Box
from tests.producers.namo.answering import (
    InProcess,
    answer,
    last_first,
    nan_goals,
    nothing,
    refusing,
    unknown_object,
)
from tests.producers.namo.sliding_world import SlidingWorld, movable, two_rooms

KEY = SearchKey(5, 6, 7)
SCENE = two_rooms(movable(1, 1.2, 0.6), movable(2, 2.9, 1.5, (0.3, 0.4)))
# No push opens the goal, so that every state is asked about.
WALLED = two_rooms(movable(1, 1.2, 0.6), walls=(Box("wall_6", 2.6, 1.5, 0.0, 0.05, 1.5),))
OBJECTS = SearchOptions(
    object_strategy="ml", ml_object_model="objects", max_depth=2, max_goals_per_object=3, algorithm="tree_idfs"
)
GOALS = replace(
    OBJECTS, object_strategy="nearest_first", goal_strategy="ml", ml_object_model=None, ml_goal_model="goals"
)
BOTH = replace(OBJECTS, goal_strategy="ml", ml_goal_model="goals")
HEURISTIC = replace(OBJECTS, object_strategy="nearest_first", ml_object_model=None)


def tried(result: SearchResult) -> list[tuple[int, str, tuple[float, float, float]]]:
    return [(attempt.parent, attempt.object, attempt.target) for attempt in result.attempts]


def test_the_order_and_the_goals_are_the_models() -> None:
    asker = InProcess(last_first)
    world = SlidingWorld(SCENE)
    result = search(world, BOTH, KEY, asker)
    first = [attempt for attempt in result.attempts if attempt.parent == -1]
    reachable = world.reachable(world.initial())
    assert len(reachable) == 2
    for name, (plus, minus) in zip(reversed(reachable), (first[:2], first[2:4]), strict=True):
        x, y, yaw = world.initial().movables[SCENE.place(name)]
        assert plus.object == minus.object == name
        assert plus.target == pytest.approx((x + 0.5, y, yaw + 7.0 - math.tau))
        assert minus.target == pytest.approx((x - 0.5, y, yaw))


def test_queries_say_what_the_planner_sees() -> None:
    asker, world = InProcess(last_first), SlidingWorld(SCENE)
    search(world, replace(BOTH, ml_samples=17), KEY, asker)
    query, state = asker.queries[0], world.initial()
    assert (query.op, query.object_model, query.goal_model) == ("rank_and_sample", "objects", "goals")
    assert (query.samples, query.goals, query.objects) == (17, 3, 2)
    assert query.scene == SCENE
    assert query.state.key == state.key
    assert query.reachable == world.reachable(state)
    assert query.reached == reached_bits(world.reach(state))
    assert query.in_the_way == first_hits(world.reach(state)) != ()
    later = asker.queries[-1]
    assert later.state.key != state.key
    assert later.reached == reached_bits(world.reach(later.state))
    assert later.in_the_way == first_hits(world.reach(later.state))
    assert len({query.seed for query in asker.queries}) == len(asker.queries)


@pytest.mark.parametrize(
    ("options", "ops"),
    [(OBJECTS, {"rank_objects"}), (GOALS, {"sample_goals"}), (BOTH, {"rank_and_sample"})],
)
def test_one_query_serves_both_strategies(options: SearchOptions, ops: set[str]) -> None:
    asker = InProcess(last_first)
    result = search(SlidingWorld(SCENE), options, KEY, asker)
    assert {query.op for query in asker.queries} == ops
    assert result.ml.calls == result.ml.answered == len(asker.queries)
    assert result.ml.fallbacks == {}
    wanted = (options.ml_object_model, options.ml_goal_model)
    assert result.ml.versions == {model: "v1" for model in wanted if model is not None}


@pytest.mark.parametrize("options", [OBJECTS, GOALS, BOTH])
def test_no_state_is_asked_about_twice(options: SearchOptions) -> None:
    tree, flat = InProcess(last_first), InProcess(last_first)
    kept = search(SlidingWorld(SCENE), options, KEY, tree)
    repeated = search(SlidingWorld(SCENE), replace(options, algorithm="idfs"), KEY, flat)
    assert repeated.nodes_expanded > kept.nodes_expanded
    assert flat.queries == tree.queries
    assert tried(repeated) == tried(kept)
    asked = [(query.state.key, query.object) for query in flat.queries]
    assert len(set(asked)) == len(asked)


def fails_after(count: int) -> InProcess:
    """Answers so many times, then not any more."""
    left = itertools.count()
    return InProcess(lambda query: last_first(query) if next(left) < count else refusing("unreachable")(query))


def test_a_server_that_dies_during_a_search_does_not_part_idfs_and_its_tree() -> None:
    for count in range(4):
        tree = search(SlidingWorld(SCENE), BOTH, KEY, fails_after(count))
        flat = search(SlidingWorld(SCENE), replace(BOTH, algorithm="idfs"), KEY, fails_after(count))
        assert tried(tree) == tried(flat)
        assert tree.ml.answered == min(count, tree.ml.calls)


BAD = [(nan_goals, "bad_answer"), (unknown_object, "bad_answer"), (nothing, None)] + [
    (refusing(code), code) for code in ("expired", "model_failed", "busy", "unreachable", "bad_answer")
]


@pytest.mark.parametrize(("reply", "code"), BAD)
@pytest.mark.parametrize("options", [OBJECTS, GOALS, BOTH])
def test_without_a_usable_answer_the_search_is_the_heuristic_one(options, reply, code) -> None:  # type: ignore[no-untyped-def]
    # An answer without objects cannot be followed; one without goals has none that could be pushed to.
    expected = code or ("no_goal" if options is GOALS else "bad_answer")
    asker = InProcess(reply)
    result = search(SlidingWorld(SCENE), options, KEY, asker)
    heuristic = search(SlidingWorld(SCENE), HEURISTIC, KEY)
    assert heuristic.nodes_expanded > 3
    assert tried(result) == tried(heuristic)
    assert result.stop_reason is heuristic.stop_reason
    assert result.ml.fallbacks.keys() == {expected}
    assert result.ml.calls == len(asker.queries) > 0


def test_a_failing_server_is_asked_once_for_order_and_goals_of_a_state() -> None:
    asker = InProcess(refusing("unreachable"))
    result = search(SlidingWorld(SCENE), BOTH, KEY, asker)
    states = {query.state.key for query in asker.queries}
    assert len(asker.queries) == len(states)
    assert result.ml.fallbacks == {"unreachable": len(states)}


def test_skip_leaves_out_what_the_model_does_not_answer() -> None:
    skipped = search(SlidingWorld(SCENE), replace(BOTH, ml_on_error="skip"), KEY, InProcess(refusing("busy")))
    assert (skipped.stop_reason, skipped.nodes_expanded) == (StopReason.EXHAUSTED, 0)
    assert skipped.failure_code is FailureCode.ML_INFERENCE

    def second_only(query: Query) -> Answer:
        return last_first(query) if query.object == "obstacle_1_movable" else refusing("model_failed")(query)

    result = search(SlidingWorld(SCENE), replace(GOALS, ml_on_error="skip", max_depth=1), KEY, InProcess(second_only))
    assert {attempt.object for attempt in result.attempts} == {"obstacle_1_movable"}
    assert result.ml.fallbacks == {"model_failed": 1}


@pytest.mark.parametrize("options", [OBJECTS, GOALS, BOTH])
def test_fail_ends_the_search(options: SearchOptions) -> None:
    result = search(SlidingWorld(SCENE), replace(options, ml_on_error="fail"), KEY, InProcess(nan_goals))
    assert (result.stop_reason, result.failure_code) == (StopReason.MODEL_FAILED, FailureCode.ML_INFERENCE)
    assert not result.solved
    assert result.ml.calls == 1


def test_goals_that_are_no_push_or_outside_are_dropped() -> None:
    def some(query: Query) -> Answer:
        x, y, yaw = query.poses[1]
        near = [(0.0, 0.0), (0.049, 0.0), (0.0, -0.03), (-9.0, 0.0), (0.0, 3.0), (0.06, 0.0), (0.2, 0.2)]
        return answer(query, goals=tuple(PushGoal("obstacle_1_movable", x + a, y + b, yaw, 0.5) for a, b in near))

    scene = two_rooms(movable(1, 1.2, 0.6))
    options = replace(GOALS, max_depth=1, ml_on_error="skip", object_strategy="farthest_first", max_goals_per_object=5)
    result = search(
        SlidingWorld(scene),
        options,
        KEY,
        InProcess(lambda q: some(q) if q.object != "obstacle_0_movable" else nothing(q)),
    )
    assert [attempt.target[:2] for attempt in result.attempts] == [
        pytest.approx((1.26, 0.6)),
        pytest.approx((1.4, 0.8)),
    ]
    assert result.ml.fallbacks == {"no_goal": 1}


def test_no_more_goals_are_taken_than_wanted() -> None:
    def many(query: Query) -> Answer:
        x, y, _ = query.poses[query.scene.place(query.object or "")]
        return answer(query, goals=tuple(PushGoal(query.object or "", x + 0.1 + i / 100, y, 0, 1.0) for i in range(50)))

    result = search(SlidingWorld(SCENE), replace(GOALS, max_depth=1), KEY, InProcess(many))
    assert result.nodes_expanded == 6


def test_objects_that_the_model_leaves_out_come_last() -> None:
    result = search(SlidingWorld(SCENE), replace(OBJECTS, max_depth=1), KEY,
                    InProcess(lambda query: answer(query, query.reachable[1:])))  # fmt: skip
    assert [attempt.object for attempt in result.attempts[::3]] == ["obstacle_1_movable", "obstacle_0_movable"]


def test_time_spent_asking_counts_and_is_reported() -> None:
    seconds = [0.0]

    def slow(query: Query) -> Answer:
        seconds[0] += 2.0
        return refusing("expired")(query)

    options = replace(BOTH, search_timeout_s=5.0)
    result = search(SlidingWorld(WALLED), options, KEY, InProcess(slow), clock=lambda: seconds[0])
    assert result.stop_reason is StopReason.TIMEOUT
    assert result.ml.seconds == 6.0
    assert result.ml.calls == 3


def test_nobody_to_ask_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="nobody to ask"):
        search(SlidingWorld(SCENE), BOTH, KEY)


def test_a_dead_server_costs_one_deadline(tmp_path: Path) -> None:
    config = QueryClientConfig(deadline_s=1.0, backoff_s=600.0)
    with QueryClient([f"ipc://{tmp_path}/nobody"], config) as client:
        result = search(SlidingWorld(WALLED), BOTH, KEY, client)
        spent = client.stats.seconds
    assert tried(result) == tried(search(SlidingWorld(WALLED), HEURISTIC, KEY))
    assert result.ml.fallbacks == {"unreachable": result.ml.calls}
    # Two deadlines would be 2 s.
    assert result.ml.calls > 3
    assert spent < 2.0
