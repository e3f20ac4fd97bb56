"""What a search is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from protocol.errors import ConfigurationError

Algorithm = Literal["idfs", "tree_idfs", "random_sampling"]
ObjectStrategy = Literal["no_heuristic", "nearest_first", "goal_proximity", "farthest_first", "blocking_path", "ml"]
GoalStrategy = Literal["random", "grid", "adaptive", "ml"]
OnError = Literal["heuristic", "skip", "fail"]


@dataclass(frozen=True)
class SearchOptions:
    """How to search. Raises ConfigurationError for values that make no sense.

    max_depth: pushes of a plan. max_terminal_checks: tests whether the goal is open. max_pushes: motion primitives.
    epsilon: chance that a place in the order of objects, or a goal, is drawn at random. ml_on_error: without a usable
    answer, go on as `nearest_first` / `random` (heuristic), leave the state or the object out (skip), or end the search
    (fail). legacy_theta: a goal's yaw is the direction of the push, as in the original.
    """

    algorithm: Algorithm = "idfs"
    object_strategy: ObjectStrategy = "no_heuristic"
    goal_strategy: GoalStrategy = "random"
    max_depth: int = 5
    max_goals_per_object: int = 5
    max_terminal_checks: int = 5000
    max_pushes: int | None = None
    search_timeout_s: float = 300.0
    epsilon: float = 0.0
    ml_object_model: str | None = None
    ml_goal_model: str | None = None
    ml_samples: int = 32
    ml_on_error: OnError = "heuristic"
    legacy_theta: bool = False

    def __post_init__(self) -> None:
        self._check_choices()
        for name in ("max_depth", "max_goals_per_object", "max_terminal_checks", "ml_samples"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.max_pushes is not None and self.max_pushes < 1:
            raise ConfigurationError(f"max_pushes must be at least 1, or be left out, found {self.max_pushes}")
        if not self.search_timeout_s > 0:
            raise ConfigurationError(f"search_timeout_s must be more than 0, found {self.search_timeout_s}")
        if not 0 <= self.epsilon <= 1:
            raise ConfigurationError(f"epsilon is a probability, 0 to 1, found {self.epsilon}")
        for strategy, model in (("object", self.ml_object_model), ("goal", self.ml_goal_model)):
            if getattr(self, f"{strategy}_strategy") == "ml" and not model:
                raise ConfigurationError(
                    f"{strategy}_strategy ml needs the name of a model on the server: give ml_{strategy}_model"
                )

    def _check_choices(self) -> None:
        choices = {
            "algorithm": Algorithm,
            "object_strategy": ObjectStrategy,
            "goal_strategy": GoalStrategy,
            "ml_on_error": OnError,
        }
        for name, kinds in choices.items():
            if getattr(self, name) not in get_args(kinds):
                expected = ", ".join(get_args(kinds))
                raise ConfigurationError(f"{name} must be one of {expected}, found {getattr(self, name)!r}")

    @property
    def asks(self) -> bool:
        """Some strategy needs a model."""
        return "ml" in (self.object_strategy, self.goal_strategy)
