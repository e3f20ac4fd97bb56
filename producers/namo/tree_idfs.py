"""Iterative deepening that keeps its tree: every push is simulated once, every state tested once.

It visits the same states in the same order as `idfs` and finds the same plan, if no budget ends either.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from producers.namo.outcome import Target
from producers.namo.run import Node, SearchRun


@dataclass
class _Branch:
    """One state of the tree. What is None, or not among the children, has not been looked at yet."""

    node: Node
    terminal: bool | None = None
    objects: tuple[str, ...] | None = None
    goals: dict[str, list[Target]] = field(default_factory=dict)
    children: dict[tuple[str, int], _Branch | None] = field(default_factory=dict)
    # Everything below is known and closed.
    complete: bool = False


def search_tree_idfs(run: SearchRun) -> Node | None:
    """The first state with an open goal; None: there is none within max_depth. Raises BudgetSpent."""
    root = _Branch(Node(run.world.initial()))
    for limit in range(1, run.options.max_depth + 1):
        found = _visit(run, root, limit)
        if found is not None or root.complete:
            return found
    return None


def _visit(run: SearchRun, branch: _Branch, limit: int) -> Node | None:
    node = branch.node
    if branch.terminal is None:
        branch.terminal = run.is_terminal(node)
    if branch.terminal:
        return node
    if len(node.path) == limit or branch.complete:
        return None
    if branch.objects is None:
        branch.objects = run.objects(node)
    for name in branch.objects:
        if name not in branch.goals:
            branch.goals[name] = run.goals(node, name)
        for number, target in enumerate(branch.goals[name]):
            child = _child(run, branch, name, number, target)
            found = None if child is None else _visit(run, child, limit)
            if found is not None:
                return found
    branch.complete = all(child is None or child.complete for child in branch.children.values())
    return None


def _child(run: SearchRun, branch: _Branch, name: str, number: int, target: Target) -> _Branch | None:
    place = (name, number)
    if place not in branch.children:
        node = run.push(branch.node, name, number, target)
        branch.children[place] = None if node is None else _Branch(node)
    return branch.children[place]
