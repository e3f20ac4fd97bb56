"""The baseline: push any object anywhere, up to max_depth times, and never go back."""

from __future__ import annotations

from producers.namo.run import Node, SearchRun


def search_random_sampling(run: SearchRun) -> Node | None:
    """The state with an open goal if the one stream of pushes leads to it. Raises BudgetSpent.

    The object is any that is reachable, the goal the first of the goal strategy. A push that moved nothing uses up a
    place of the depth, but is left out of the plan.
    """
    node = Node(run.world.initial())
    while not run.is_terminal(node):
        name = run.any_object(node) if len(node.path) < run.options.max_depth else None
        if name is None:
            return None
        goals = run.goals(node, name)
        child = run.push(node, name, 0, goals[0]) if goals else None
        node = child or Node(node.state, (*node.path, (name, 0)), node.plan, node.attempt)
    return node
