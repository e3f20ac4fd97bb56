"""One search under way: what all planners do at a state, and the record of what they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from producers.namo.budget import Budget, BudgetSpent
from producers.namo.goal_strategies import GoalDrawer, angle
from producers.namo.model_strategies import Asker, ModelStrategies, Place
from producers.namo.object_strategies import mix_order, order_objects
from producers.namo.options import SearchOptions
from producers.namo.outcome import Attempt, Plan, PlanStep, SearchWorld, StopReason, Target
from producers.namo.push import PushResult
from producers.namo.streams import ActionPath, SearchKey, stream
from protocol.errors import ConfigurationError
from protocol.namo.scene import State

# A push that moves nothing further than this leads nowhere new [m, rad].
MOVED_M, TURNED_RAD = 0.005, 0.02


@dataclass(frozen=True)
class Node:
    """A state and the pushes that led to it. attempt: number of the last of them, -1: none."""

    state: State
    path: ActionPath = ()
    plan: Plan = ()
    attempt: int = -1


class SearchRun:
    """Strategies, budget and record of one search. Every method that costs something may raise BudgetSpent.

    attempts holds each distinct push once: the second time that idfs simulates the push of an action path, it counts
    in nodes_expanded but is found in the record, because a push is a function of its state and target.
    """

    def __init__(
        self, world: SearchWorld, options: SearchOptions, key: SearchKey, ask: Asker | None, budget: Budget,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.world, self.options, self.budget = world, options, budget
        self._key = key
        self._drawer = GoalDrawer(world.scene, options.legacy_theta)
        if options.asks and ask is None:
            raise ConfigurationError("a strategy is ml, but there is nobody to ask: give the address of a server")
        self.models = None if ask is None else ModelStrategies(world, options, key, ask, clock)
        self.attempts: list[Attempt] = []
        self._numbers: dict[ActionPath, int] = {}
        self.nodes_expanded = 0
        self.deepest = 0
        self.found_reachable = False
        self.found_moving = False

    def is_terminal(self, node: Node) -> bool:
        """The robot can get to its goal from here. Counts a terminal check."""
        self.budget.check_terminal()
        return self.world.reach(node.state).goal_open

    def objects(self, node: Node) -> tuple[str, ...]:
        """What can be pushed here, in the order to try it."""
        names = self.world.reachable(node.state)
        self.found_reachable |= bool(names)
        if not names:
            return ()
        if self.options.object_strategy == "ml":
            ordered = self._models().order(Place(node.state, node.path, names))
            self._require(ordered is not None)
            if ordered is None and self.options.ml_on_error == "skip":
                return ()
            names = ordered or order_objects("nearest_first", self.world, node.state, names)
        else:
            names = order_objects(self.options.object_strategy, self.world, node.state, names)
        return mix_order(names, self.options.epsilon, stream(self._key, "epsilon objects", node.path))

    def any_object(self, node: Node) -> str | None:
        """One that can be pushed here, drawn at random."""
        names = self.world.reachable(node.state)
        self.found_reachable |= bool(names)
        return names[int(stream(self._key, "objects", node.path).integers(len(names)))] if names else None

    def goals(self, node: Node, name: str) -> list[Target]:
        """Where to push one of these objects to, in the order to try it."""
        options = self.options
        rng = stream(self._key, "goals", node.path, name)
        if options.goal_strategy == "ml":
            place = Place(node.state, node.path, self.world.reachable(node.state))
            goals = self._models().goals(place, name)
            self._require(goals is not None)
            if goals is None and options.ml_on_error == "skip":
                return []
            goals = goals or self._drawer.draw("random", node.state, name, options.max_goals_per_object, rng)
        else:
            goals = self._drawer.draw(options.goal_strategy, node.state, name, options.max_goals_per_object, rng)
        return self._mix_goals(node, name, goals)

    def push(self, node: Node, name: str, number: int, target: Target) -> Node | None:
        """Where a push leads; None if it moved nothing and left the goal closed. number: of the goal."""
        self.budget.require()
        spent = self.budget.primitives
        result = self.world.push(node.state, name, target, self.budget.allow)
        self.budget.primitives = spent + len(result.primitives)
        self.nodes_expanded += 1
        path = (*node.path, (name, number))
        self.deepest = max(self.deepest, len(path))
        if path not in self._numbers:
            self._numbers[path] = len(self.attempts)
            self.attempts.append(Attempt(len(self.attempts), node.attempt, len(path), name, target, result))
        if self.budget.refused is not None:
            raise BudgetSpent(self.budget.refused)
        if not result.goal_open and not _moved(result):
            return None
        self.found_moving = True
        return Node(result.after, path, (*node.plan, PlanStep(name, target, result)), self._numbers[path])

    def _mix_goals(self, node: Node, name: str, goals: list[Target]) -> list[Target]:
        rng = stream(self._key, "epsilon goals", node.path, name)
        swap = rng.random(len(goals)) < self.options.epsilon
        drawn = self._drawer.draw("random", node.state, name, len(goals), rng)
        return [other if swapped else goal for goal, other, swapped in zip(goals, drawn, swap, strict=True)]

    def _models(self) -> ModelStrategies:
        self.budget.require()  # asking takes time
        assert self.models is not None  # checked at the beginning
        return self.models

    def _require(self, answered: bool) -> None:
        if not answered and self.options.ml_on_error == "fail":
            raise BudgetSpent(StopReason.MODEL_FAILED)


def _moved(result: PushResult) -> bool:
    change = result.after.movables - result.before.movables
    turns = np.array([abs(angle(float(turn))) for turn in change[:, 2]])
    return bool((np.hypot(change[:, 0], change[:, 1]) >= MOVED_M).any() or (turns >= TURNED_RAD).any())
