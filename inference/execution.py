"""One batch through the models: what each query is answered. A bad item fails alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from inference.batcher import Batch, Item, Key
from inference.model import Model
from protocol.namo.queries import (
    Answer,
    Failed,
    FailureCode,
    PushGoal,
    Query,
    RankedObject,
    Timing,
    check_answer,
    encode,
)

log = logging.getLogger("headrace.infer")

Ranked = tuple[RankedObject, ...]
Goals = tuple[PushGoal, ...]
Result = TypeVar("Result")
_WHY_CHARACTERS = 500


class ResultsError(Exception):
    """A model returned something else than one result for each query."""


@dataclass(frozen=True)
class Outcome:
    """What one client is sent. code: `answered`, or that of a Failed."""

    code: str
    data: bytes


@dataclass(frozen=True)
class Executed:
    """outcomes: in the order of the batch. retried: how many items were tried alone."""

    outcomes: list[Outcome]
    seconds: float
    retried: int


def models_missing(query: Query, models: Mapping[str, Model]) -> Failed | None:
    """What to answer if the models that the query names are not there, or of the wrong kind."""
    needed = (("object", query.object_model, "sample_goals"), ("goal", query.goal_model, "rank_objects"))
    for kind, name, without in needed:
        if query.op == without or name is None:
            continue
        if name not in models:
            why = f"there is no model {name!r}; there are: {', '.join(sorted(models)) or 'none'}"
            return Failed(id=query.id, code="unknown_model", why=why)
        found = models[name].info.kind
        if found != kind:
            why = f"{query.op} needs a model of kind {kind!r}, and {name!r} is of kind {found!r}"
            return Failed(id=query.id, code="wrong_model", why=why)
    return None


class Executor:
    """Runs batches, one at a time."""

    def __init__(self, device: str, max_batch: int) -> None:
        """max_batch: the most items of one call to a model."""
        self._device, self._max_batch = device, max_batch

    def run(self, batch: Batch, models: Mapping[str, Model]) -> Executed:
        """Never raises an Exception: whatever a model does becomes `model_failed`."""
        began, retried = time.monotonic(), 0
        taking_part = [models[name] for name in batch.key[1:] if name is not None]
        versions = {model.info.name: model.info.version for model in taking_part}
        drawn_before = sum(model.drawn_s for model in taking_part)
        queries = [item.query for item in batch.items]
        try:
            results: list[tuple[Ranked, Goals] | str] = [*self._results(batch.key, queries, models)]
        except Exception as error:
            log.warning("a batch of %d failed, each is tried alone: %s", len(queries), _why(error))
            retried = len(queries)
            results = [self._alone(batch.key, query, models) for query in queries]
        seconds = time.monotonic() - began
        draw_s = sum(model.drawn_s for model in taking_part) - drawn_before
        timing = Timing(0.0, draw_s, seconds - draw_s, len(queries))
        outcomes = [
            _outcome(item, result, versions, self._device, replace(timing, queue_s=began - item.arrived))
            for item, result in zip(batch.items, results, strict=True)
        ]
        return Executed(outcomes, seconds, retried)

    def _alone(self, key: Key, query: Query, models: Mapping[str, Model]) -> tuple[Ranked, Goals] | str:
        try:
            return self._results(key, [query], models)[0]
        except Exception as error:
            log.warning("a query failed alone: %s", _why(error))
            return _why(error)

    def _results(self, key: Key, queries: Sequence[Query], models: Mapping[str, Model]) -> list[tuple[Ranked, Goals]]:
        op, object_model, goal_model = key
        ranked: list[Ranked] = [()] * len(queries)
        if object_model is not None:
            ranked = _one_each(models[object_model].rank(queries), len(queries), object_model)
        if goal_model is None:
            return [(objects, ()) for objects in ranked]
        asked: list[tuple[int, str]] = []
        for number, query in enumerate(queries):
            best = [str(query.object)] if op == "sample_goals" else [r.name for r in ranked[number][: query.objects]]
            asked += [(number, name) for name in best]
        goals = self._sample([(queries[number], name) for number, name in asked], models[goal_model], goal_model)
        gathered: list[list[PushGoal]] = [[] for _ in queries]
        for (number, _), found in zip(asked, goals, strict=True):
            gathered[number] += found[: queries[number].goals]
        return [(objects, tuple(found)) for objects, found in zip(ranked, gathered, strict=True)]

    def _sample(self, asked: Sequence[tuple[Query, str]], model: Model, name: str) -> list[Goals]:
        """In pieces: a query may want the goals of many objects."""
        goals: list[Goals] = []
        for first in range(0, len(asked), self._max_batch):
            piece = asked[first : first + self._max_batch]
            goals += _one_each(model.sample(piece), len(piece), name)
        return goals


def _one_each(results: list[Result], expected: int, name: str) -> list[Result]:
    if len(results) != expected:
        raise ResultsError(f"model {name} returned {len(results)} results for {expected} queries")
    return results


def failure(query: Query, code: FailureCode, why: str) -> Outcome:
    """A query that is not answered."""
    return Outcome(code, encode(Failed(id=query.id, code=code, why=why)))


def _outcome(
    item: Item, result: tuple[Ranked, Goals] | str, versions: dict[str, str], device: str, timing: Timing
) -> Outcome:
    query = item.query
    if isinstance(result, str):
        return failure(query, "model_failed", result)
    objects, goals = result
    answer = Answer(id=query.id, objects=objects, goals=goals, versions=versions, device=device, timing=timing)
    try:  # a model may return anything, also what cannot be compared or encoded
        check_answer(query, answer)
        return Outcome("answered", encode(answer))
    except Exception as error:
        log.warning("a model's answer cannot be sent: %s", _why(error))
        return failure(query, "model_failed", _why(error))


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_WHY_CHARACTERS]
