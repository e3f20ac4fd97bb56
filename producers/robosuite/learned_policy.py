"""A policy that was learned, with actions as robosuite takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.policy_client import RemotePolicy


class LearnedPolicy:
    """Clips actions to [-1, 1], and says with the gripper what was meant: close (1), open (-1) or hold (0).

    robosuite takes only the sign of the gripper action (see fingers.py). A regression that says 0.02 where the fingers
    should hold would close them, step by step. What is stored is what was done.
    """

    def __init__(self, policy: RemotePolicy) -> None:
        self._policy = policy
        self.parameters = policy.parameters

    def reset(self, first: TimeStep) -> None:
        """Begin an episode."""
        self._policy.reset(first)

    def act(self, timestep: TimeStep) -> NDArray[np.float32]:
        """float32[7]. Raises PolicyServerError."""
        action = self._policy.act(timestep).clip(-1.0, 1.0)
        action[-1] = np.rint(action[-1])
        return action

    def done(self, timestep: TimeStep) -> bool:
        """The task's own success test holds."""
        return self._policy.done(timestep)
