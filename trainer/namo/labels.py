"""What a search teaches: which of the movables helped, which did not, and where the helpful ones were pushed to.

A search tries pushes from a state, and pushes from the states they lead to. A push helped if the goal was open after it
or after pushes that followed it. At a state from which the goal can be opened with d more pushes (at the least, as far
as the search got) a movable counts as

    helpful     it was the first of such d pushes
    useless     every way that begins with it was tried to the same depth, and opened nothing
    unknown     anything else: the search ended, or was cut, before it got there

An iterative deepening search stops at its first plan, so most that comes after the plan in its order is unknown. The
model learns to tell what helped from everything else that could be pushed: it does not see the search's order, so that
what is unknown is noise, and spread evenly. Measures count only what is known.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from protocol.namo.scene import Scene, State
from trainer.namo.searches import Pose, Search

_ROOT = -1
# Where a push leaves every movable nearer to its place than this, there is nothing to try after it [m, rad].
_STILL = 5e-3


@dataclass(frozen=True)
class Choice:
    """A state, places of the movables that helped (at least one), and of those that are known to be useless."""

    scene: Scene
    state: State
    helpful: tuple[int, ...]
    useless: tuple[int, ...]


@dataclass(frozen=True)
class HelpfulPush:
    """A push that helped, and where the movable was told to go; achieved: where it went. opened: the goal, itself."""

    scene: Scene
    state: State
    place: int
    target: Pose
    achieved: Pose
    opened: bool


class Tree:
    """The pushes of a search as a tree. needed: for each push, how many it takes to open the goal, itself included."""

    def __init__(self, search: Search) -> None:
        table = search.attempts
        self._search, self._table = search, table
        self._before, self._after = table.states(search.scene)
        self.rows: dict[int, list[int]] = defaultdict(list)
        self._height = [1] * len(table)
        self.needed: list[int | None] = [None] * len(table)
        for row in reversed(range(len(table))):  # a push comes after the one that led to it
            if table.goal_open[row]:
                self.needed[row] = 1
            parent = table.parent[row]
            self.rows[parent].insert(0, row)
            if parent == _ROOT:
                continue
            self._height[parent] = max(self._height[parent], self._height[row] + 1)
            needed = self.needed[row]
            if needed is not None:
                self.needed[parent] = min(needed + 1, self.needed[parent] or needed + 1)

    def choices(self) -> list[Choice]:
        """Of every state from which the search opened the goal."""
        found = []
        for parent, rows in sorted(self.rows.items()):
            depths = [depth for row in rows if (depth := self.needed[row]) is not None]
            if not depths:
                continue
            depth, by_object = min(depths), defaultdict(list)
            for row in rows:
                by_object[self._table.object[row]].append(row)
            helpful = [place for place, own in by_object.items() if any(self.needed[row] == depth for row in own)]
            useless = [place for place, own in by_object.items() if self._useless(own, depth)]
            state = self._state(parent)
            found.append(Choice(self._search.scene, state, tuple(sorted(helpful)), tuple(sorted(useless))))
        return found

    def pushes(self) -> list[HelpfulPush]:
        """Every push that opened the goal or led to one that did."""
        table, scene = self._table, self._search.scene
        return [
            HelpfulPush(
                scene,
                self._before[row],
                table.object[row],
                table.target[row],
                table.achieved[row],
                table.goal_open[row],
            )
            for row in range(len(table))
            if self.needed[row] is not None
        ]

    def _state(self, parent: int) -> State:
        return State.initial(self._search.scene) if parent == _ROOT else self._after[parent]

    def _useless(self, rows: list[int], depth: int) -> bool:
        """All that begins with these pushes of one movable was tried `depth` pushes deep, and opened nothing."""
        if any(self.needed[row] is not None for row in rows):
            return False
        return depth == 1 or max(self._height[row] for row in rows) >= depth or all(map(self._still, rows))

    def _still(self, row: int) -> bool:
        return bool(np.abs(self._after[row].movables - self._before[row].movables).max() < _STILL)


def choices(search: Search) -> list[Choice]:
    """What a search says about which movable to push."""
    return Tree(search).choices()


def helpful_pushes(search: Search) -> list[HelpfulPush]:
    """What a search says about where to push; of the stored plan where its table of attempts was cut off."""
    found = Tree(search).pushes()
    if found:
        return found
    last = len(search.plan) - 1
    return [
        HelpfulPush(search.scene, step.before, step.place, step.target, step.achieved, number == last)
        for number, step in enumerate(search.plan)
    ]
