"""The Panda gripper as a policy drives it: a setpoint that moves in steps, which the policy has to count itself.

robosuite's PandaGripper (models/grippers/panda_gripper.py) takes only the sign of the gripper action: +1 closes, -1
opens, 0 leaves the setpoint where it is; a step is a tenth of the range. The observation shows where the fingers are,
about 0.1 s behind.
"""

from __future__ import annotations

from math import ceil

# Finger travel of the Panda hand [m], and what one action moves its setpoint by: speed 0.2 on a scale of -1 … 1.
TRAVEL_M = 0.04
STEPS_OVER_TRAVEL = 10
# A setpoint so far inside the object presses with the actuator's whole 20 N or at least half of it (kp 1000).
SQUEEZE_M = 0.01
_ROUNDING = 1e-6


class Fingers:
    """Half the opening that the fingers are told to take, in tenths of the travel, and the action that changes it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """robosuite begins every episode half open."""
        self._tenths = STEPS_OVER_TRAVEL // 2

    @property
    def setpoint(self) -> float:
        """Half the opening the fingers are told to take [m]."""
        return self._tenths * TRAVEL_M / STEPS_OVER_TRAVEL

    @property
    def told_open(self) -> bool:
        """The setpoint is fully open."""
        return self._tenths == STEPS_OVER_TRAVEL

    @property
    def told_closed(self) -> bool:
        """The setpoint is fully closed."""
        return self._tenths == 0

    def squeeze(self, half_width: float) -> bool:
        """The setpoint presses on an object of that half width [m]."""
        return self.setpoint <= half_width - SQUEEZE_M

    def close(self) -> float:
        """The gripper action that closes by one step."""
        self._tenths = max(0, self._tenths - 1)
        return 1.0

    def open(self) -> float:
        """The gripper action that opens by one step."""
        self._tenths = min(STEPS_OVER_TRAVEL, self._tenths + 1)
        return -1.0

    def narrow_to(self, half_opening: float) -> float:
        """The gripper action that leads to the narrowest setpoint not below `half_opening` [m]."""
        # In whole steps: an opening that is a setpoint, but for rounding, must not send the fingers to and fro.
        wanted = min(max(ceil(half_opening / TRAVEL_M * STEPS_OVER_TRAVEL - _ROUNDING), 0), STEPS_OVER_TRAVEL)
        if self._tenths < wanted:
            return self.open()
        return self.close() if self._tenths > wanted else 0.0
