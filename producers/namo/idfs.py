"""Iterative deepening: depth-first up to 1 push, then up to 2, …, keeping nothing in between."""

from __future__ import annotations

from producers.namo.run import Node, SearchRun


def search_idfs(run: SearchRun) -> Node | None:
    """The first state with an open goal; None: there is none within max_depth. Raises BudgetSpent."""
    for limit in range(1, run.options.max_depth + 1):
        dive = _Dive(run, limit)
        found = dive.visit(Node(run.world.initial()))
        if found is not None or not dive.cut:
            return found
    return None


class _Dive:
    """cut: some state was left alone only because of the limit."""

    def __init__(self, run: SearchRun, limit: int) -> None:
        self._run, self._limit = run, limit
        self.cut = False

    def visit(self, node: Node) -> Node | None:
        run = self._run
        if run.is_terminal(node):
            return node
        if len(node.path) == self._limit:
            self.cut = True
            return None
        for name in run.objects(node):
            for number, target in enumerate(run.goals(node, name)):
                child = run.push(node, name, number, target)
                found = None if child is None else self.visit(child)
                if found is not None:
                    return found
        return None
