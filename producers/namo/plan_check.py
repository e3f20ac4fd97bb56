"""Plans, tried again: does it work, does a part of it work, does it work with the poses that were achieved?"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from producers.namo.outcome import Allow, Plan, PlanStep, SearchWorld, Target
from producers.namo.push import PushCode, PushResult
from protocol.namo.scene import State

# A replay on the same machine gives the same numbers.
TOLERANCE = 1e-9
# A longer plan is not made shorter: each action more doubles the number of parts.
MAX_SMOOTHED_ACTIONS = 20
_CUT_SHORT = (PushCode.BUDGET, PushCode.CANCELLED)

Action = tuple[str, Target]


def _always() -> bool:
    return True


def verify(world: SearchWorld, plan: Plan, allow: Allow = _always) -> bool:
    """Replayed from the start, every push ends as recorded (≤ TOLERANCE) and the goal is open at the end.

    allow: asked before every primitive; once it refuses, the plan counts as not verified.
    """
    state = world.initial()
    for step in plan:
        result = _push(world, state, (step.object, step.target), allow)
        if result is None or not same_result(result, step.result):
            return False
        state = result.after
    return world.reach(state).goal_open


def smooth(world: SearchWorld, plan: Plan, allow: Allow = _always) -> Plan:
    """The shortest part of the plan, in its order and with its last action, whose replay opens the goal.

    Tried short to long, the earlier actions first; the plan itself if no shorter part works, if it has more than
    MAX_SMOOTHED_ACTIONS actions, or as soon as `allow`, asked before every primitive, refuses.
    """
    if len(plan) > MAX_SMOOTHED_ACTIONS or not plan:
        return plan
    replays = _Replays(world, [(step.object, step.target) for step in plan], allow)
    last = len(plan) - 1
    for length in range(len(plan) - 1):
        for kept in combinations(range(last), length):
            steps = replays.run((*kept, last))
            if replays.refused:
                return plan
            if steps is not None and steps[-1].result.goal_open:
                return steps
    return plan


def refine(world: SearchWorld, plan: Plan, allow: Allow = _always) -> Plan:
    """The plan with each commanded target replaced by the pose that was achieved, if its replay still opens the goal.

    Otherwise, or if `allow` refuses a primitive, the plan as it was.
    """
    state, steps = world.initial(), []
    for step in plan:
        result = _push(world, state, (step.object, step.result.achieved), allow)
        if result is None:
            return plan
        steps.append(PlanStep(step.object, step.result.achieved, result))
        state = result.after
    return tuple(steps) if steps and world.reach(state).goal_open else plan


def same_result(one: PushResult, two: PushResult) -> bool:
    """Robot and movables before and after lie within TOLERANCE, and the push ended for the same reason."""
    numbers = ((one.before, two.before), (one.after, two.after))
    close = _close(one.achieved, two.achieved) and all(
        _close(a.robot, b.robot) and _close(a.movables, b.movables) for a, b in numbers
    )
    return close and one.code is two.code and one.goal_open is two.goal_open


class _Replays:
    """Replays of parts of a plan; parts that begin alike share their beginning. refused: `allow` has said no."""

    def __init__(self, world: SearchWorld, actions: list[Action], allow: Allow) -> None:
        self._world, self._actions, self._allow = world, actions, allow
        self._known: dict[tuple[int, ...], Plan | None] = {(): ()}
        self.refused = False

    def run(self, kept: tuple[int, ...]) -> Plan | None:
        """The steps of these actions; None: one of them can not be executed."""
        if kept not in self._known:
            before = self.run(kept[:-1])
            steps = None if before is None or self.refused else self._append(before, self._actions[kept[-1]])
            if self.refused:
                return None
            self._known[kept] = steps
        return self._known[kept]

    def _append(self, steps: Plan, action: Action) -> Plan | None:
        state = steps[-1].result.after if steps else self._world.initial()
        result = _push(self._world, state, action, self._ask)
        return None if result is None else (*steps, PlanStep(*action, result))

    def _ask(self) -> bool:
        self.refused |= not self._allow()
        return not self.refused


def _push(world: SearchWorld, state: State, action: Action, allow: Allow) -> PushResult | None:
    """None: the object is not in the scene, cannot be pushed from there, or the push was cut short."""
    name, target = action
    if name not in world.reachable(state):
        return None
    result = world.push(state, name, target, allow)
    return None if result.code in _CUT_SHORT else result


def _close(one: Target | NDArray[np.float64], two: Target | NDArray[np.float64]) -> bool:
    a, b = np.asarray(one), np.asarray(two)
    return a.shape == b.shape and bool((np.abs(a - b) <= TOLERANCE).all())
