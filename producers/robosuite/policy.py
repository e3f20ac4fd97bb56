"""A scripted pick-and-place policy that hurries where it can and is exact where it must.

The hand passes one waypoint per phase and goes on to the next when it is within the phase's tolerance:

    APPROACH  over the object               loose
    GRASP     down to it, fingers closing   over when the fingers press
    LIFT      up, and towards the wall      default
    MOVE      over the walls to the target  loose
    PLACE     down, fingers opening         tight
    RETREAT   up                            loose

A lost object sends it back to APPROACH. `adaptive=False` switches off whatever saves time (speed bands, tolerances by
phase, fingers and axes that move together, the early end) and keeps the waypoints: the policy to compare with.

Positions in world [m]. `hand` is the grip site, between the finger pads.
"""

from __future__ import annotations

from enum import Enum, auto
from math import copysign

import numpy as np
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.robosuite.fingers import Fingers
from producers.robosuite.motion import BASE_SPEED, hand_yaw, rotate, speed_for, translate, yaw_error, yaw_to_grasp
from producers.robosuite.script import Script, Seen
from producers.robosuite.tasks import TaskGeometry

# The fingers begin to close so far from the object, and to open so far above the placing height [m].
CLOSE_WITHIN_M, OPEN_WITHIN_M = 0.15, 0.05
# A grasp that takes longer has met something in its way.
GRASP_LIMIT_STEPS = 120
# Fingers that move less than this in a step stand still [m].
FINGERS_STILL_M = 0.0002
# Opening beyond the object's half width to which they close while the hand still comes down [m].
PRESHAPE_MARGIN_M = 0.011
# The adaptive policy closes on the object when the hand is this near to the grasp [m]; it goes on down meanwhile.
GRASP_REACH_XY_M, GRASP_REACH_Z_M = 0.018, 0.03
# So far the hand comes down before the fingers press.
CLOSING_DESCENT_M = 0.015
# The other one waits until it stands there.
SETTLED_M = 0.01
# The fingers may come down, or close, when the hand is turned no farther than this from the grasp [rad].
YAW_REACH_RAD = 0.15
# Fingers that close to less than this part of the object's half width have missed it.
MISSED = 0.6
# The object has come to rest when it was so near to its target, and so slow, for so many steps.
REST_RADIUS_M, REST_STEPS, REST_MOVE_M = 0.08, 10, 0.004
# Steps that the object gets to come to rest after the hand has left.
PATIENCE_STEPS = 50


class Phase(Enum):
    """Where in the script the hand is."""

    APPROACH = auto()
    GRASP = auto()
    LIFT = auto()
    MOVE = auto()
    PLACE = auto()
    RETREAT = auto()
    END = auto()


class ScriptedPickPlacePolicy:
    """Takes an object to its target; a Policy for the tasks in tasks.TASKS."""

    def __init__(
        self,
        geometry: TaskGeometry,
        speed_multiplier: float = 2.0,
        position_tolerance: float = 0.05,
        position_tolerance_loose: float = 0.08,
        position_tolerance_tight: float = 0.03,
        grasp_threshold: float = 0.06,
        adaptive: bool = True,
    ) -> None:
        """Tolerances and thresholds in metres.

        speed_multiplier: of the base speed when the waypoint is far; 2 is all that the controller takes.
        grasp_threshold: the object counts as held while its grasp is no farther than this from the hand.
        """
        self.parameters: dict[str, float | bool] = {
            "speed_multiplier": speed_multiplier,
            "position_tolerance": position_tolerance,
            "position_tolerance_loose": position_tolerance_loose,
            "position_tolerance_tight": position_tolerance_tight,
            "grasp_threshold": grasp_threshold,
            "adaptive": adaptive,
        }
        self._geometry = geometry
        self._script = Script(geometry)
        self._fingers = Fingers()
        self._adaptive = adaptive
        self._speed_multiplier = speed_multiplier
        self._grasp_threshold = grasp_threshold
        loose, default, tight = position_tolerance_loose, position_tolerance, position_tolerance_tight
        if not adaptive:
            loose = default = tight
        self._tolerance = {
            Phase.APPROACH: loose,
            Phase.LIFT: default,
            Phase.MOVE: loose,
            Phase.PLACE: tight,
            Phase.RETREAT: loose,
        }
        self._enter(Phase.APPROACH)

    def reset(self, first: TimeStep) -> None:
        """Begin with the first time step: choose how to turn the hand for the grasp."""
        seen = Seen(first)
        self._fingers.reset()
        self._rest_steps = 0
        self._last_object, self._last_half_opening = seen.object, seen.half_opening
        self._retreat = seen.hand
        self._begin_approach(seen, near_yaw=0.0)

    def act(self, timestep: TimeStep) -> NDArray[np.float32]:
        """One OSC action, float32[7] in [-1, 1]."""
        seen = Seen(timestep)
        self._count_rest(seen)
        self._advance(seen)
        self._last_object, self._last_half_opening = seen.object, seen.half_opening
        self._phase_steps += 1
        error = self._waypoint(seen) - seen.hand
        move = translate(error, self._speed(seen, error), self._geometry.position_scale)
        turn = rotate(seen.hand_quat, self._yaw, self._geometry.rotation_scale)
        return np.concatenate((move, turn, [self._drive_fingers(seen)])).astype(np.float32)

    def done(self, timestep: TimeStep) -> bool:
        """The script has ended, or (adaptive) the object has rested near its target for ten steps."""
        del timestep  # `act` has counted: called once per time step, before this.
        return self._phase is Phase.END or (self._adaptive and self._rest_steps >= REST_STEPS)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._phase_steps = 0
        self._closing = False

    def _begin_approach(self, seen: Seen, near_yaw: float) -> None:
        task = self._geometry.task
        yaw = yaw_to_grasp(seen.object_quat, task.grasp_axis, task.grasp_period, near_yaw)
        other = yaw - copysign(task.grasp_period, yaw - near_yaw)
        blocked = self._script.palm_overlap(seen, yaw) > max(0.0, self._script.palm_overlap(seen, other))
        self._yaw = other if blocked else yaw
        self._enter(Phase.APPROACH)

    def _waypoint(self, seen: Seen) -> NDArray[np.float64]:
        """Where the hand should go now, float64[3]."""
        script = self._script
        match self._phase:
            case Phase.APPROACH:
                return script.hover(seen)
            case Phase.GRASP:
                turned = yaw_error(seen.hand_quat, self._yaw) < YAW_REACH_RAD
                return script.descent(seen, GRASP_REACH_XY_M) if turned else script.hover(seen)
            case Phase.LIFT:
                return script.lift(seen, self._tolerance[Phase.LIFT] if self._adaptive else None)
            case Phase.MOVE:
                return script.over_target(seen)
            case Phase.PLACE:
                return script.lowering(seen, self._tolerance[Phase.PLACE])
            case Phase.RETREAT | Phase.END:
                return self._retreat

    def _speed(self, seen: Seen, error: NDArray[np.float64]) -> float:
        """Stick deflection for a waypoint that lies `error` ahead."""
        if not self._adaptive:
            return BASE_SPEED
        distance = self._script.way_to_grasp(seen) if self._phase is Phase.GRASP else float(np.linalg.norm(error))
        return speed_for(distance, self._speed_multiplier)

    def _advance(self, seen: Seen) -> None:
        """Go to the next phase when this one is over; back to the first when the object is lost."""
        if self._lost(seen):
            self._begin_approach(seen, near_yaw=hand_yaw(seen.hand_quat))
            return
        match self._phase:
            case Phase.APPROACH if self._arrived(seen):
                self._enter(Phase.GRASP)
            case Phase.GRASP if self._grasped(seen):
                self._enter(Phase.LIFT)
            case Phase.LIFT if self._arrived(seen):
                self._enter(Phase.END if self._script.lifts_only else Phase.MOVE)
            case Phase.MOVE if self._arrived(seen):
                self._enter(Phase.PLACE)
            case Phase.PLACE if self._released(seen):
                self._retreat = self._script.retreat(seen)
                self._enter(Phase.RETREAT)
            case Phase.RETREAT if self._left(seen):
                self._enter(Phase.END)
            case _:
                pass

    def _arrived(self, seen: Seen) -> bool:
        gap = self._waypoint(seen) - seen.hand
        # The lift is over when the height is right: how far the object has come by then is only bounded.
        distance = abs(float(gap[2])) if self._phase is Phase.LIFT else float(np.linalg.norm(gap))
        return distance < self._tolerance[self._phase]

    def _holds(self, seen: Seen) -> bool:
        return float(np.linalg.norm(self._script.grasp(seen) - seen.hand)) < self._grasp_threshold

    def _lost(self, seen: Seen) -> bool:
        """The fingers have closed on nothing, or the object has left them."""
        if self._phase is Phase.GRASP:
            missed = self._fingers.told_closed and seen.half_opening < MISSED * self._geometry.task.half_width
            return missed or self._phase_steps > GRASP_LIMIT_STEPS
        return self._phase in {Phase.LIFT, Phase.MOVE} and not self._holds(seen)

    def _grasped(self, seen: Seen) -> bool:
        """The fingers press on the object; the policy that is not adaptive waits until they stand still."""
        if not self._closing:
            return False
        if self._adaptive:
            return self._fingers.squeeze(self._geometry.task.half_width)
        return self._fingers.told_closed and self._fingers_still(seen)

    def _fingers_still(self, seen: Seen) -> bool:
        return abs(seen.half_opening - self._last_half_opening) < FINGERS_STILL_M

    def _released(self, seen: Seen) -> bool:
        if self._adaptive:
            return self._fingers.told_open or not self._holds(seen)
        return self._fingers.told_open and self._fingers_still(seen)

    def _left(self, seen: Seen) -> bool:
        """The hand is away; the adaptive policy waits a while for the object to come to rest."""
        return self._phase_steps > PATIENCE_STEPS if self._adaptive else self._arrived(seen)

    def _count_rest(self, seen: Seen) -> None:
        moved = float(np.linalg.norm(seen.object - self._last_object))
        distance = self._script.distance_to_target(seen)
        if self._script.lifts_only:
            resting = distance < REST_RADIUS_M
        else:
            resting = distance < REST_RADIUS_M and moved < REST_MOVE_M and not self._holds(seen)
        self._rest_steps = self._rest_steps + 1 if resting else 0

    def _drive_fingers(self, seen: Seen) -> float:
        """The gripper action of this step."""
        match self._phase:
            case Phase.APPROACH:
                return self._preshape(seen)
            case Phase.GRASP:
                self._closing = self._closing or self._at_grasp(seen)
                return self._fingers.close() if self._closing else self._preshape(seen)
            case Phase.LIFT | Phase.MOVE:
                return self._fingers.close()
            case Phase.PLACE:
                return self._fingers.open() if self._may_open(seen) else self._fingers.close()
            case Phase.RETREAT | Phase.END:
                return self._fingers.close() if self._script.lifts_only else self._fingers.open()

    def _preshape(self, seen: Seen) -> float:
        """Open; near the object begin to close, to a little more than its width."""
        near = float(np.linalg.norm(seen.object - seen.hand)) < CLOSE_WITHIN_M
        if self._adaptive and near:
            return self._fingers.narrow_to(self._geometry.task.half_width + PRESHAPE_MARGIN_M)
        return self._fingers.open()

    def _at_grasp(self, seen: Seen) -> bool:
        if yaw_error(seen.hand_quat, self._yaw) > YAW_REACH_RAD:
            return False
        gap = np.abs(self._script.grasp(seen) - seen.hand)
        if not self._adaptive:
            return float(np.linalg.norm(gap)) < SETTLED_M
        # Fingers that press hold the hand where it is: how high they may begin follows from where they must end.
        task = self._geometry.task
        reach = min(GRASP_REACH_Z_M, task.grip_below + CLOSING_DESCENT_M - task.grasp_height)
        return float(np.linalg.norm(gap[:2])) < GRASP_REACH_XY_M and float(gap[2]) < reach

    def _may_open(self, seen: Seen) -> bool:
        if not self._adaptive:
            return self._arrived(seen) or not self._fingers.told_closed
        return self._script.over_bin(seen) and self._script.height_above_release(seen) < OPEN_WITHIN_M
