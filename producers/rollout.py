"""One episode of simulation: reset, act, step, record. Nothing is rendered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.environment import Environment, Policy


@dataclass(frozen=True)
class Rollout:
    """What an episode was. columns: name → dtype[T, *shape]; row t is what was seen before action t, and the action."""

    columns: dict[str, NDArray[np.generic]]
    success: bool
    steps: int


def rollout(
    environment: Environment, policy: Policy, seed: int, max_steps: int, on_step: Callable[[int], None]
) -> Rollout:
    """Run one episode of at most `max_steps` steps.

    on_step: called with each step's number; it may raise to stop. Success is judged in the state after the last action.
    """
    timestep = environment.reset(seed)
    policy.reset(timestep)
    rows: dict[str, list[NDArray[np.generic]]] = {name: [] for name in (*timestep.observation, "action")}
    for step in range(max_steps):
        on_step(step)
        action = policy.act(timestep)
        for name, value in timestep.observation.items():
            rows[name].append(value)
        rows["action"].append(action)
        timestep = environment.step(action)
        if timestep.last or policy.done(timestep):
            break
    columns = {name: np.stack(values) for name, values in rows.items()}
    return Rollout(columns, timestep.success, len(rows["action"]))
