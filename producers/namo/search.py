"""Search for pushes that open the way to the goal."""

from __future__ import annotations

import time
from collections.abc import Callable

from producers.namo.budget import Budget, BudgetSpent
from producers.namo.idfs import search_idfs
from producers.namo.model_strategies import Asker
from producers.namo.options import SearchOptions
from producers.namo.outcome import (
    Attempt,
    FailureCode,
    MlStats,
    Plan,
    PlanStep,
    SearchResult,
    SearchWorld,
    StopReason,
    Target,
)
from producers.namo.random_sampling import search_random_sampling
from producers.namo.run import Node, SearchRun
from producers.namo.streams import SearchKey
from producers.namo.tree_idfs import search_tree_idfs

__all__ = [
    "Asker",
    "Attempt",
    "FailureCode",
    "MlStats",
    "Plan",
    "PlanStep",
    "SearchKey",
    "SearchOptions",
    "SearchResult",
    "SearchWorld",
    "StopReason",
    "Target",
    "search",
]

_PLANNERS: dict[str, Callable[[SearchRun], Node | None]] = {
    "idfs": search_idfs,
    "tree_idfs": search_tree_idfs,
    "random_sampling": search_random_sampling,
}


def _never() -> bool:
    return False


def search(
    world: SearchWorld,
    options: SearchOptions,
    key: SearchKey,
    ask: Asker | None = None,
    cancelled: Callable[[], bool] = _never,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Search in one scene. The result is a function of (scene, options, key, answers), unless a time-out fires.

    ask: answers the queries of `ml` strategies; not needed without. clock: seconds. Raises ConfigurationError if a
    strategy is `ml` and there is nobody to ask.
    """
    begin, cpu = clock(), time.process_time()
    budget = Budget(options, clock, cancelled)
    run = SearchRun(world, options, key, ask, budget, clock)
    found: Node | None = None
    try:
        found = _PLANNERS[options.algorithm](run)
        reason = _reason(found)
    except BudgetSpent as spent:
        reason = spent.reason
    return SearchResult(
        stop_reason=reason,
        failure_code=_failure_code(reason, run),
        plan=() if found is None else found.plan,
        attempts=tuple(run.attempts),
        nodes_expanded=run.nodes_expanded,
        terminal_checks=budget.terminal_checks,
        primitives=budget.primitives,
        max_depth_reached=run.deepest,
        wall_s=clock() - begin,
        cpu_s=time.process_time() - cpu,
        ml=MlStats() if run.models is None else run.models.stats,
    )


def _reason(found: Node | None) -> StopReason:
    if found is None:
        return StopReason.EXHAUSTED
    return StopReason.SOLVED if found.plan else StopReason.TRIVIAL


def _failure_code(reason: StopReason, run: SearchRun) -> FailureCode:
    if reason is not StopReason.EXHAUSTED:
        return {
            StopReason.SOLVED: FailureCode.NONE,
            StopReason.TRIVIAL: FailureCode.NONE,
            StopReason.TIMEOUT: FailureCode.TIMEOUT,
            StopReason.PUSH_BUDGET: FailureCode.MAX_PUSHES,
            StopReason.CHECK_BUDGET: FailureCode.MAX_TERMINAL_CHECKS,
            StopReason.CANCELLED: FailureCode.CANCELLED,
            StopReason.MODEL_FAILED: FailureCode.ML_INFERENCE,
        }[reason]
    if not run.found_reachable:
        return FailureCode.NO_REACHABLE_OBJECTS
    if run.nodes_expanded == 0 and run.models is not None and run.models.stats.fallbacks:
        return FailureCode.ML_INFERENCE  # everything was skipped
    return FailureCode.MAX_DEPTH if run.found_moving else FailureCode.EXECUTION_FAILED
