"""Replaying, shortening and refining plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from producers.namo.outcome import Plan, PlanStep, Target
from producers.namo.plan_check import MAX_SMOOTHED_ACTIONS, refine, smooth, verify
from producers.namo.push import PushCode
from producers.namo.search import SearchKey, SearchOptions, search
from protocol.namo.scene import State
from tests.producers.namo.sliding_world import SlidingWorld, movable, two_rooms

SCENE = two_rooms(movable(1, 1.2, 0.6), movable(2, 0.6, 2.3, (0.15, 0.15)))
# Clears the door: the box in it goes into the other room, and aside.
THROUGH, ASIDE = ("obstacle_0_movable", (2.6, 1.5, 0.0)), ("obstacle_0_movable", (2.6, 2.6, 0.0))
USELESS = ("obstacle_1_movable", (1.0, 0.6, 0.0))
BACK = ("obstacle_1_movable", (1.2, 0.6, 0.0))


def executed(*actions: tuple[str, Target]) -> Plan:
    world, steps = SlidingWorld(SCENE), []
    state = world.initial()
    for name, target in actions:
        result = world.push(state, name, target, lambda: True)
        steps.append(PlanStep(name, target, result))
        state = result.after
    return tuple(steps)


def actions(plan: Plan) -> list[tuple[str, Target]]:
    return [(step.object, step.target) for step in plan]


def test_a_plan_that_was_found_is_verified() -> None:
    plan = search(SlidingWorld(SCENE), SearchOptions(max_depth=2), SearchKey(0, 0, 0)).plan
    assert plan
    assert verify(SlidingWorld(SCENE), plan)


def nudged(state: State, by: float, robot: bool) -> State:
    arrays = state.robot.copy(), state.movables.copy()
    arrays[0 if robot else 1].flat[0] += by
    return State(*arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda step: replace(step, target=(step.target[0] - 0.4, *step.target[1:])),
        lambda step: replace(step, object="obstacle_2_movable"),
        lambda step: replace(step, object="obstacle_9_movable"),
        lambda step: replace(step, result=replace(step.result, after=nudged(step.result.after, 2e-9, False))),
        lambda step: replace(step, result=replace(step.result, after=nudged(step.result.after, 2e-9, True))),
        lambda step: replace(step, result=replace(step.result, before=nudged(step.result.before, 2e-9, False))),
        lambda step: replace(step, result=replace(step.result, achieved=(0.0, 0.0, 0.0))),
        lambda step: replace(step, result=replace(step.result, achieved=(float("nan"), 0.0, 0.0))),
        lambda step: replace(step, result=replace(step.result, code=PushCode.STUCK)),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_plan_that_was_altered_is_not(change, place: int) -> None:  # type: ignore[no-untyped-def]
    plan = executed(THROUGH, ASIDE)
    assert verify(SlidingWorld(SCENE), plan)
    assert not verify(SlidingWorld(SCENE), (*plan[:place], change(plan[place]), *plan[place + 1 :]))


def test_less_than_a_nanometre_is_no_alteration() -> None:
    first, last = executed(THROUGH, ASIDE)
    same = replace(last, result=replace(last.result, after=nudged(last.result.after, 5e-10, False)))
    assert verify(SlidingWorld(SCENE), (first, same))


def test_a_plan_must_open_the_goal() -> None:
    assert not verify(SlidingWorld(SCENE), executed(THROUGH))
    assert not verify(SlidingWorld(SCENE), executed(USELESS))
    assert not verify(SlidingWorld(SCENE), ())
    open_scene = replace_goal((0.6, 1.0))
    assert verify(open_scene, ())


def replace_goal(goal: tuple[float, float]) -> SlidingWorld:
    return SlidingWorld(type(SCENE)(SCENE.name, SCENE.bounds, SCENE.robot, goal, SCENE.walls, SCENE.movables))


def test_verifying_asks_before_every_primitive() -> None:
    plan = executed(THROUGH, ASIDE)
    left = iter([True] * (len(plan[0].result.primitives) + 1) + [False] * 100)
    assert not verify(SlidingWorld(SCENE), plan, lambda: next(left))


@pytest.mark.parametrize(
    ("plan", "kept"),
    [
        ([THROUGH, ASIDE], [THROUGH, ASIDE]),
        ([USELESS, THROUGH, ASIDE], [THROUGH, ASIDE]),
        ([THROUGH, USELESS, ASIDE], [THROUGH, ASIDE]),
        ([USELESS, BACK, THROUGH, USELESS, BACK, ASIDE], [THROUGH, ASIDE]),
    ],
)
def test_what_the_plan_does_not_need_is_left_out(
    plan: list[tuple[str, Target]], kept: list[tuple[str, Target]]
) -> None:
    shorter = smooth(SlidingWorld(SCENE), executed(*plan))
    assert actions(shorter) == kept
    assert verify(SlidingWorld(SCENE), shorter)


def test_the_last_action_is_kept_even_if_it_adds_nothing() -> None:
    assert actions(smooth(SlidingWorld(SCENE), executed(THROUGH, ASIDE, BACK)))[-1] == BACK


def test_a_long_plan_stays_as_it_is() -> None:
    there_and_back = [USELESS, BACK] * (MAX_SMOOTHED_ACTIONS // 2)
    plan = executed(*there_and_back, THROUGH, ASIDE)
    assert len(plan) > MAX_SMOOTHED_ACTIONS
    world = SlidingWorld(SCENE)
    assert smooth(world, plan) is plan
    assert world.pushes == 0
    assert smooth(world, ()) == ()


def test_smoothing_that_is_stopped_leaves_the_plan() -> None:
    plan = executed(USELESS, THROUGH, ASIDE)
    for granted in range(0, 12, 3):
        left = iter([True] * granted + [False] * 100)
        assert smooth(SlidingWorld(SCENE), plan, lambda left=left: next(left)) is plan  # type: ignore[misc]


def test_parts_that_begin_alike_are_replayed_once() -> None:
    world = SlidingWorld(SCENE)
    smooth(world, executed(USELESS, THROUGH, ASIDE))
    # Alone: the last; then USELESS + last, THROUGH + last.
    assert world.pushes == 5


def test_refined_targets_are_the_poses_that_were_achieved() -> None:
    plan = executed(("obstacle_0_movable", (9.0, 1.5, 1.0)), ("obstacle_0_movable", (3.0, 9.0, 1.0)))
    assert verify(SlidingWorld(SCENE), plan)
    refined = refine(SlidingWorld(SCENE), plan)
    assert [step.target for step in refined] == [step.result.achieved for step in plan]
    assert verify(SlidingWorld(SCENE), refined)


class Weak(SlidingWorld):
    """A push ends a step before a target that is nearer than a metre: achieved poses as targets do not suffice."""

    def push(self, state, name, target, allow):  # type: ignore[no-untyped-def]
        x, y, _ = state.movables[self.scene.place(name)]
        away = np.hypot(target[0] - x, target[1] - y)
        share = 1.0 if away >= 1.0 else 0.2
        nearer = (float(x + share * (target[0] - x)), float(y + share * (target[1] - y)), target[2])
        return super().push(state, name, nearer, allow)


def test_refined_targets_that_do_not_open_the_goal_are_refused() -> None:
    plan = executed(("obstacle_0_movable", (9.0, 1.5, 1.0)), ("obstacle_0_movable", (3.0, 9.0, 1.0)))
    assert verify(Weak(SCENE), plan)
    assert refine(Weak(SCENE), plan) is plan


def test_refining_that_is_stopped_leaves_the_plan() -> None:
    plan = executed(THROUGH, ASIDE)
    assert refine(SlidingWorld(SCENE), plan, lambda: False) is plan
    assert refine(SlidingWorld(SCENE), ()) == ()
