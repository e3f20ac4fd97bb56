"""What a hand-made search teaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocol.namo.scene import State
from tests.producers.namo.sliding_world import movable, two_rooms
from tests.trainer.namo.searches import Push, room, search_of
from trainer.namo.examples import BEYOND_M, goal_examples, object_examples
from trainer.namo.labels import choices, helpful_pushes
from trainer.namo.searches import PlanPush


def test_one_push_opens_the_goal_and_what_comes_after_it_is_unknown() -> None:
    found = choices(search_of([Push(-1, 0), Push(-1, 0), Push(-1, 1), Push(-1, 1, opens=True)]))
    assert [(choice.helpful, choice.useless) for choice in found] == [((1,), (0,))]
    assert found[0].state.key == State.initial(room()).key


def test_a_movable_is_useless_only_if_it_was_tried_as_deep_as_the_plan() -> None:
    pushes = [
        *(Push(-1, 0), Push(-1, 1), Push(-1, 2)),  # one push deep: nothing opens
        *(Push(0, 1), Push(0, 2)),  # two pushes deep: nothing begins with 0 …
        *(Push(1, 0), Push(1, 2, opens=True)),  # … 1 and then 2 opens it; what begins with 2 is never tried
    ]
    first, second = choices(search_of(pushes))
    assert (first.helpful, first.useless) == ((1,), (0,))
    assert (second.helpful, second.useless) == ((2,), (0,))
    np.testing.assert_allclose(second.state.movables[1], (0.0, 0.51, 0.3))


def test_a_movable_that_cannot_be_moved_is_useless() -> None:
    pushes = [Push(-1, 0, moved=False), Push(-1, 1), Push(-1, 2), Push(1, 2, opens=True)]
    first, _ = choices(search_of(pushes))
    assert (first.helpful, first.useless) == ((1,), (0,))


def test_a_search_without_a_plan_teaches_nothing() -> None:
    search = search_of([Push(-1, 0), Push(0, 1)])
    assert choices(search) == []
    assert helpful_pushes(search) == []


def test_helpful_pushes_are_the_way_to_the_open_goal() -> None:
    search = search_of([Push(-1, 0), Push(-1, 1), Push(0, 1), Push(1, 2, opens=True)])
    found = helpful_pushes(search)
    assert [push.place for push in found] == [1, 2]
    assert [push.opened for push in found] == [False, True]
    assert found[0].target == search.attempts.target[1]
    assert found[0].achieved == search.attempts.achieved[1]
    assert found[1].state.key == search.attempts.states(search.scene)[1][1].key


def test_the_stored_plan_counts_where_the_table_was_cut_off() -> None:
    search = search_of([Push(-1, 0)])
    step = PlanPush(State.initial(search.scene), 2, (1.0, 2.0, 0.5), (0.9, 2.0, 0.4))
    found = helpful_pushes(replace(search, plan=(step,)))
    assert [(push.place, push.target, push.achieved) for push in found] == [(2, step.target, step.achieved)]


def test_examples_of_both_models() -> None:
    search = search_of([Push(-1, 0), Push(-1, 2), Push(-1, 1, opens=True)])
    (choice,) = object_examples(search)
    assert choice.reachable.tolist() == [True, True, True]
    assert choice.known.tolist() == [True, True, True]
    assert choice.wanted.tolist() == [0, 1, 0]
    np.testing.assert_allclose(choice.away_m[0], np.hypot(0.3, 1.9), rtol=1e-6)
    (told,), (went,), (further,) = (goal_examples(search, learn) for learn in ("target", "achieved", "beyond"))
    np.testing.assert_allclose(told.move, (0.5, 0.12, 0.0), atol=1e-6)
    np.testing.assert_allclose(went.move, (0.0, 0.12, 0.0), atol=1e-6)
    np.testing.assert_allclose(further.move, (0.0, 0.12 + BEYOND_M, 0.0), atol=1e-6)
    assert told.picture.points.shape[0] == 1
    assert told.picture.bytes < 4096


def test_examples_tell_what_stands_in_the_way() -> None:
    search = search_of([Push(-1, 1), Push(-1, 0, opens=True)], two_rooms(movable(1, 1.0, 0.4, (0.1, 0.1))))
    (choice,), (push,) = object_examples(search), goal_examples(search)
    assert choice.picture.numbers[:, 11].tolist() == [1, 0]
    assert push.picture.numbers[:, 11].tolist() == [1]
