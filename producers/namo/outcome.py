"""What a search found, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

from producers.namo.push import PushResult
from protocol.namo.scene import Scene, State
from protocol.namo.wavefront import Reach, Wavefront

Target = tuple[float, float, float]


class Allow(Protocol):
    """Asked before every primitive: may it be executed?"""

    def __call__(self) -> bool: ...


class SearchWorld(Protocol):
    """What planners need of a world; `producers.namo.world.World` is one."""

    @property
    def scene(self) -> Scene: ...
    @property
    def wavefront(self) -> Wavefront: ...
    def initial(self) -> State: ...
    def reach(self, state: State) -> Reach: ...
    def reachable(self, state: State) -> tuple[str, ...]: ...
    def push(self, state: State, name: str, target: Target, allow: Allow) -> PushResult: ...


class StopReason(StrEnum):
    """Why a search ended."""

    SOLVED = "solved"
    TRIVIAL = "trivial"
    EXHAUSTED = "exhausted"
    TIMEOUT = "timeout"
    PUSH_BUDGET = "push_budget"
    CHECK_BUDGET = "check_budget"
    CANCELLED = "cancelled"
    MODEL_FAILED = "model_failed"


class FailureCode(IntEnum):
    """Why there is no plan, for tables; NONE: there is one. Numbers never change their meaning."""

    NONE = 0
    TIMEOUT = 1
    MAX_TERMINAL_CHECKS = 2
    MAX_DEPTH = 3
    NO_REACHABLE_OBJECTS = 4
    ROBOT_COLLISION = 5
    OBJECT_COLLISION = 6
    INVALID_ACTION = 7
    EXECUTION_FAILED = 8
    ENV_LOAD = 9
    ENV_RESET = 10
    GOAL_SET = 11
    ML_LOAD = 12
    ML_INFERENCE = 13
    STATE = 14
    MEMORY = 15
    SYSTEM = 16
    MAX_PUSHES = 17
    CANCELLED = 18
    UNKNOWN = 99


@dataclass(frozen=True)
class Attempt:
    """One simulated push. parent: number of the attempt that led to the state it started from, -1: the first state."""

    number: int
    parent: int
    depth: int
    object: str
    target: Target
    result: PushResult


@dataclass(frozen=True)
class PlanStep:
    """One push of a plan. target: commanded pose of the object [m, rad]; result.achieved: where it came to lie."""

    object: str
    target: Target
    result: PushResult


Plan = tuple[PlanStep, ...]


@dataclass
class MlStats:
    """Queries of one search. fallbacks: how often it went on without a model's answer, by code. seconds: spent asking.

    versions: of the models that answered, by name; the last one, if a model was exchanged during the search.
    """

    calls: int = 0
    answered: int = 0
    seconds: float = 0.0
    fallbacks: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def fall_back(self, code: str) -> None:
        """Count one."""
        self.fallbacks[code] = self.fallbacks.get(code, 0) + 1


@dataclass(frozen=True)
class SearchResult:
    """attempts: every distinct push that was simulated, once, in the order of the first time.

    nodes_expanded: pushes simulated, repeats included. primitives: motion primitives executed, repeats included.
    """

    stop_reason: StopReason
    failure_code: FailureCode
    plan: Plan
    attempts: tuple[Attempt, ...]
    nodes_expanded: int
    terminal_checks: int
    primitives: int
    max_depth_reached: int
    wall_s: float
    cpu_s: float
    ml: MlStats

    @property
    def solved(self) -> bool:
        """The plan opens the goal; an empty one if it was open from the start."""
        return self.stop_reason in (StopReason.SOLVED, StopReason.TRIVIAL)
