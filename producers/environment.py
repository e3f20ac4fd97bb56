"""What a simulator and a policy look like to Headrace, after dm_env: two small protocols and one record.

Any simulator fits that can be reset to a seed and stepped. Rendering is apart (`Renderer`), because frames cost a
hundred times the physics: a worker simulates first and renders only what will be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class TimeStep(NamedTuple):
    """What the simulator shows before the next action.

    observation: column name to row, e.g. `observations/qpos` → float32[9]; the names are those of the stream's columns.
    success: the task's own success test holds in this state.
    last: the simulator will not go on (its horizon is reached, or it failed); `step` must not be called again.
    """

    observation: Mapping[str, NDArray[np.generic]]
    success: bool
    last: bool


class Environment(Protocol):
    """A simulator. The same seed gives the same episode for the same actions, whatever ran before."""

    def reset(self, seed: int) -> TimeStep:
        """Begin the episode that `seed` names."""
        ...

    def step(self, action: NDArray[np.float32]) -> TimeStep:
        """Apply one action, float32[A], for one control step."""
        ...


class Policy(Protocol):
    """Chooses actions. It holds no state from one episode to the next."""

    def reset(self, first: TimeStep) -> None:
        """Begin an episode whose first time step is `first`."""
        ...

    def act(self, timestep: TimeStep) -> NDArray[np.float32]:
        """The action for this time step, float32[A]."""
        ...

    def done(self, timestep: TimeStep) -> bool:
        """The policy has nothing left to do, and the episode may end here."""
        ...


class Renderer(Protocol):
    """Draws the cameras of a stored simulator state."""

    def render(self, state: NDArray[np.float64]) -> Mapping[str, NDArray[np.uint8]]:
        """Camera name → uint8[H, W, 3], upright RGB, for one flattened simulator state."""
        ...
