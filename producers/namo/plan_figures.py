"""Searches over a set of scenes, and what they say about the planners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from producers.namo.options import SearchOptions
from producers.namo.outcome import SearchResult, StopReason
from producers.namo.scenes import SceneSource
from producers.namo.search import search
from producers.namo.streams import SearchKey
from producers.namo.world import World

_SPENT = (StopReason.TIMEOUT, StopReason.PUSH_BUDGET, StopReason.CHECK_BUDGET, StopReason.CANCELLED)


@dataclass(frozen=True)
class Row:
    """One search. actions: object and target of each push of its plan; deepest: pushes of the longest path tried."""

    environment: int
    stop_reason: StopReason
    actions: tuple[tuple[str, tuple[float, float, float]], ...]
    expanded: int
    primitives: int
    deepest: int
    cpu_s: float

    @property
    def solved(self) -> bool:
        """There is a plan."""
        return self.stop_reason in (StopReason.SOLVED, StopReason.TRIVIAL)

    @property
    def spent(self) -> bool:
        """A budget ended it, so that it says nothing about what the planner would have found."""
        return self.stop_reason in _SPENT

    @staticmethod
    def of(environment: int, result: SearchResult) -> Row:
        """What is kept of a search."""
        actions = tuple((step.object, step.target) for step in result.plan)
        spent = (result.nodes_expanded, result.primitives, result.max_depth_reached, result.cpu_s)
        return Row(environment, result.stop_reason, actions, *spent)


@dataclass(frozen=True)
class Pair:
    """Both planners on the same scene with the same random streams."""

    idfs: Row
    tree: Row

    @property
    def comparable(self) -> bool:
        """No budget ended either."""
        return not (self.idfs.spent or self.tree.spent)


def run_one(source: SceneSource, environment: int, options: SearchOptions, seed: int) -> Row:
    """One search in a scene that nobody has looked at yet. Loading the scene is not in its time."""
    world = World(source.load(environment).scene)
    try:
        return Row.of(environment, search(world, options, SearchKey(seed, environment, 0)))
    finally:
        world.close()


def solved_share(rows: Sequence[Row]) -> float:
    """0 to 1."""
    return float(np.mean([row.solved for row in rows]))


def solved_within(rows: Sequence[Row], primitives: int) -> float:
    """Share that is solved with so many executed motion primitives at most (success@N)."""
    return float(np.mean([row.solved and row.primitives <= primitives for row in rows]))


def solved_per_hour(rows: Sequence[Row]) -> float:
    """Solved searches for each hour of one core; the time of the others counts too."""
    return sum(row.solved for row in rows) / sum(row.cpu_s for row in rows) * 3600


def tree_vs_idfs(pairs: Iterable[Pair]) -> float:
    """Pushes that tree_idfs simulates for each one of idfs, summed over the pairs that no budget ended; NaN: none.

    idfs repeats in each round what the rounds before it have simulated, and no more than that can be saved: as both
    find the same plan, at least 1 if it has one push, and more than 1/2 if it has two.
    """
    compared = [pair for pair in pairs if pair.comparable]
    expanded = sum(pair.idfs.expanded for pair in compared)
    return sum(pair.tree.expanded for pair in compared) / expanded if expanded else float("nan")


def by_depth(pairs: Iterable[Pair]) -> dict[int, list[Pair]]:
    """Pairs by how deep their searches went."""
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        if pair.comparable:
            groups.setdefault(pair.idfs.deepest, []).append(pair)
    return dict(sorted(groups.items()))


def same_plans(pairs: Iterable[Pair]) -> float:
    """Share of the comparable pairs with the same plan, or without one in both; NaN: there are none."""
    same = [pair.idfs.actions == pair.tree.actions for pair in pairs if pair.comparable]
    return float(np.mean(same)) if same else float("nan")
