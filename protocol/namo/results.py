"""What stored searches came to, for comparisons: solved or not, pushes tried, seconds, and which models were asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from protocol.errors import DatasetError
from protocol.success_rate import wilson_interval


@dataclass(frozen=True)
class SearchResult:
    """One search that ran.

    pushes: simulated, repeats included. seconds: by the clock. versions: of the models that answered, by name.
    fallbacks: how often it went on without a model's answer.
    """

    environment: int
    difficulty: str
    strategy: str
    solved: bool
    pushes: int
    seconds: float
    versions: tuple[tuple[str, str], ...]
    fallbacks: int

    @property
    def pushes_to_solution(self) -> float:
        """Infinite if it was not solved."""
        return float(self.pushes) if self.solved else math.inf


def search_result(attributes: Mapping[str, Any]) -> SearchResult | None:
    """Of an episode's attributes; None if the search could not run, or had nothing to do. Raises DatasetError."""
    try:
        if attributes["scene"] is None or attributes["stop_reason"] == "trivial":
            return None
        options, ml = attributes["options"], attributes["ml"]
        objects, goals = options["object_strategy"], options["goal_strategy"]
        return SearchResult(
            environment=int(attributes["environment"]),
            difficulty=str(attributes["scene_meta"].get("difficulty") or ""),
            strategy=objects if goals == "random" else f"{objects}+{goals}",
            solved=bool(attributes["success"]),
            pushes=int(attributes["record"]["nodes_expanded"]),
            seconds=float(attributes["time"]["wall_s"]),
            versions=tuple(sorted(ml["versions"].items())),
            fallbacks=sum(ml["fallbacks"].values()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"not a search of `headrace produce namo`: {error!r} in its attributes") from error


@dataclass(frozen=True)
class Summary:
    """Of several searches. solved_low, solved_high: Wilson's 95 % interval. median_pushes: to the solution, infinite
    where there is none for half of the searches."""

    searches: int
    solved: float
    solved_low: float
    solved_high: float
    median_pushes: float
    median_seconds: float

    @staticmethod
    def of(results: Sequence[SearchResult]) -> Summary:
        """At least one."""
        solved = sum(result.solved for result in results)
        low, high = wilson_interval(solved, len(results))
        pushes = median(result.pushes_to_solution for result in results)
        return Summary(len(results), solved / len(results), low, high, pushes, median(r.seconds for r in results))


def solved_within(results: Sequence[SearchResult], pushes: int) -> float:
    """Share that is solved with so many pushes at most (success@N)."""
    return sum(result.pushes_to_solution <= pushes for result in results) / len(results)
