"""One scene in MuJoCo: where the robot can go, and what happens when it pushes a box."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from producers.namo.mjcf_model import Physics
from producers.namo.primitives import Choice, choose, distance, pose_cost, turn
from producers.namo.push import Primitive, PushCode, PushResult
from producers.namo.pusher import Pusher, Task
from producers.namo.simulation import Simulation
from producers.namo.world_config import WorldConfig
from protocol.namo.edges import Pose, reachable_edges, reachable_places
from protocol.namo.scene import Scene, State
from protocol.namo.wavefront import Reach, Wavefront

__all__ = ["Physics", "World", "WorldConfig"]

_CACHED_REACHES = 64
_NO_GAIN_M = 0.005  # a primitive that brings the object nearer by less failed


class World:
    """One scene. Not thread-safe. Raises PhysicsError if MuJoCo cannot load it."""

    def __init__(
        self,
        scene: Scene,
        physics: Physics = Physics.PLANAR,
        config: WorldConfig | None = None,
        xml: str | None = None,
    ) -> None:
        self.scene = scene
        self.wavefront = Wavefront(scene)
        self._config = config or WorldConfig()
        self._simulation = Simulation(scene, physics, xml if physics is Physics.FREE else None)
        self._pusher = Pusher(scene, self._simulation, self._config)
        self._reaches: OrderedDict[bytes, Reach] = OrderedDict()

    def initial(self) -> State:
        """As the scene says."""
        return State.initial(self.scene)

    def reach(self, state: State) -> Reach:
        """Where the robot can go; the last few answers are kept."""
        found = self._reaches.get(state.key)
        if found is None:
            found = self._reaches[state.key] = self.wavefront.reach(state)
            if len(self._reaches) > _CACHED_REACHES:
                self._reaches.popitem(last=False)
        self._reaches.move_to_end(state.key)
        return found

    def reachable(self, state: State) -> tuple[str, ...]:
        """Names of the movables that the robot can get to some edge point of, in the scene's order."""
        return tuple(self.scene.movables[place].name for place in reachable_places(self.reach(state)))

    def push(self, state: State, name: str, target: Pose, allow: Callable[[], bool] = lambda: True) -> PushResult:
        """Pushes a movable towards a pose [m, m, rad]: a pure function of state, name and target.

        `allow` is asked before every primitive; False ends the push with BUDGET. Raises KeyError: no such movable.
        """
        return _Push(self, self._pusher, self._config, (self.scene.place(name), target)).run(state, allow)

    def drive_to_goal(self, state: State) -> tuple[State, bool]:
        """Drives to the reached point nearest to the goal. False: it is not open, or the robot did not get there."""
        reach, goal = self.reach(state), self.scene.goal
        cell = reach.nearest(*goal, self.scene.goal_tolerance)
        if cell is None or not reach.goal_open:
            return state, False
        end = goal if reach.contains(*goal) else self.wavefront.grid.centre(*cell)
        after, there = self._pusher.drive_to(reach, end)
        off = float(np.hypot(*(after.robot - np.array(goal))))
        return after, there and off <= self.scene.goal_tolerance + self.wavefront.grid.resolution

    def close(self) -> None:
        """Gives up what is kept."""
        self._reaches.clear()


class _Push:
    """One call of `World.push`."""

    def __init__(self, world: World, pusher: Pusher, config: WorldConfig, what: tuple[int, Pose]) -> None:
        self._world, self._pusher, self._config = world, pusher, config
        self._number, self._target = what
        self._primitives: list[Primitive] = []
        self._banned: set[int] = set()
        self._best, self._idle = math.inf, 0
        self._last: int | None = None

    def run(self, state: State, allow: Callable[[], bool]) -> PushResult:
        now, code = state, None
        while code is None:
            code, choice = self._next(now, allow)
            if choice is not None:
                now, code = self._execute(now, choice)
        achieved = self._pose(now)
        goal_open = self._world.reach(now).goal_open
        return PushResult(code, state, now, achieved, tuple(self._primitives), goal_open)

    def _next(self, state: State, allow: Callable[[], bool]) -> tuple[PushCode | None, Choice | None]:
        """Why not to go on, or what to do next."""
        reach, pose, box = self._world.reach(state), self._pose(state), self._world.scene.movables[self._number]
        if reach.goal_open:
            return PushCode.GOAL_OPEN, None
        if self._arrived(pose):
            return PushCode.REACHED, None
        if len(self._primitives) >= self._config.iterations:
            return PushCode.ITERATIONS, None
        usable = reachable_edges(reach, box, pose)
        if not usable.any():
            return PushCode.NO_EDGE, None
        usable[list(self._banned)] = False
        choice = choose(box, pose, self._target, usable, self._last)
        if choice is None:
            return PushCode.NO_IMPROVE, None
        return (None, choice) if allow() else (PushCode.BUDGET, None)

    def _execute(self, state: State, choice: Choice) -> tuple[State, PushCode | None]:
        task = Task(self._number, choice.edge, choice.steps)
        primitive, after = self._pusher.execute(self._world.reach(state), task)
        if primitive is None:
            return after, PushCode.NO_PATH
        self._primitives.append(primitive)
        self._last = choice.edge
        code = self._failed(primitive, choice.edge) or self._gained(state, after)
        settled = code is not None and (self._world.reach(after).goal_open or self._arrived(self._pose(after)))
        return after, None if settled else code

    def _failed(self, primitive: Primitive, edge: int) -> PushCode | None:
        if not (primitive.stuck or primitive.aborted):
            return None
        self._banned.add(edge)
        if len(self._banned) < self._config.failures:
            return None
        return PushCode.STUCK if primitive.stuck else PushCode.ROBOT_CONTACT

    def _gained(self, before: State, after: State) -> PushCode | None:
        """The first of two primitives may lead away from the target, so one that gains nothing is not the end."""
        was, now = (float(pose_cost(state.movables[self._number], self._target)) for state in (before, after))
        best = min(was, self._best)
        self._idle = 0 if now < best - _NO_GAIN_M else self._idle + 1
        self._best = min(now, best)
        return PushCode.NO_IMPROVE if self._idle >= self._config.idle else None

    def _arrived(self, pose: Pose) -> bool:
        at = np.array(pose)
        near = float(distance(at, self._target)) <= self._config.near_m
        return near and float(turn(at, self._target)) <= self._config.near_rad

    def _pose(self, state: State) -> Pose:
        x, y, yaw = state.movables[self._number].tolist()
        return x, y, yaw
