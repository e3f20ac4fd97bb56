"""What the models are worth on searches they did not learn from, beside what one would do without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.namo.batches import goal_batch, object_batch
from trainer.namo.examples import GoalExample, ObjectExample
from trainer.namo.goal_model import GOAL_NUMBERS, GoalModel
from trainer.namo.object_model import ObjectModel

# A sample is near a helpful push if it is within these [m].
NEAR_M = (0.1, 0.2, 0.4)
SAMPLES = 32
# How heuristic goals are drawn: any direction, this far [m].
_NEAREST_M, _FARTHEST_M = 0.3, 1.0
_BATCH = 128
Floats = NDArray[np.float64]


def of_objects(model: ObjectModel, examples: Sequence[ObjectExample], device: torch.device) -> dict[str, float]:
    """top1, mrr (mean reciprocal rank) of the best helpful movable, and the same for `nearest` first and `random`.

    Ranked are those that are known to help or not to; states with only one of these say nothing and are left out.
    choices: how many states are left; NaN everywhere if none is.
    """
    told = [example for example in examples if example.known.sum() > 1]
    ranks: dict[str, list[Floats]] = {"": [], "nearest_": [], "random_": []}
    for example, scores in zip(told, _scores(model, told, device), strict=True):
        known, helps = example.known, example.wanted[example.known] > 0
        ranks[""].append(_chances(scores[: len(known)][known], helps))
        ranks["nearest_"].append(_chances(-example.away_m[known].astype(np.float64), helps))
        ranks["random_"].append(_chances(np.zeros(int(known.sum())), helps))
    found = {"choices": float(len(told))}
    for name, chances in ranks.items():
        found[f"{name}top1"] = _mean([chance[0] for chance in chances])
        found[f"{name}mrr"] = _mean([(chance / np.arange(1, len(chance) + 1)).sum() for chance in chances])
    return found


@torch.inference_mode()
def of_goals(model: GoalModel, examples: Sequence[GoalExample], device: torch.device) -> dict[str, float]:
    """Of 32 samples for each helpful push: the share whose end lies within 10, 20 and 40 cm of that push's end.

    `random_…`: the same for goals in any direction, 0.3 to 1.0 m away. One push is known to help of perhaps many that
    would, so that 1 cannot be reached.
    """
    generator = torch.Generator().manual_seed(0)
    near: list[Floats] = []
    for begin in range(0, len(examples), _BATCH):
        batch = goal_batch(part := examples[begin : begin + _BATCH], np.zeros(len(part), np.int64), device)
        context = model.encode(batch.masks, batch.points, batch.numbers).repeat_interleave(SAMPLES, dim=0)
        noise = torch.randn(len(context), GOAL_NUMBERS, generator=generator).to(device)
        ends = model.sample(context, noise)[:, :2].reshape(len(part), SAMPLES, 2).double().cpu().numpy()
        near.append(_away(ends, part))
    return {"pushes": float(len(examples)), **_within("", near), **_within("random_", [_random_away(examples)])}


def _scores(model: ObjectModel, examples: Sequence[ObjectExample], device: torch.device) -> list[Floats]:
    found: list[Floats] = []
    with torch.inference_mode():
        for begin in range(0, len(examples), _BATCH):
            part = examples[begin : begin + _BATCH]
            batch = object_batch(part, np.zeros(len(part), np.int64), device)
            found += list(model(batch.masks, batch.points, batch.numbers).double().cpu().numpy())
    return found


def _chances(scores: Floats, helps: NDArray[np.bool_]) -> Floats:
    """float64[K]: with what chance the best helpful one comes at rank 1, 2, …; equal scores in random order."""
    best = scores[helps].max()
    above, equal = int((scores > best).sum()), scores == best
    count, good = int(equal.sum()), int((equal & helps).sum())
    chances, left = np.zeros(len(scores)), 1.0
    for place in range(count - good + 1):
        hit = good / (count - place)
        chances[above + place], left = left * hit, left * (1 - hit)
    return chances


def _away(ends: Floats, examples: Sequence[GoalExample]) -> Floats:
    """Distances [m] of ends float64[B, S, 2] from the known ones."""
    known = np.stack([example.move[:2] for example in examples]).astype(np.float64)
    distances: Floats = np.linalg.norm(ends - known[:, None], axis=-1)
    return distances


def _random_away(examples: Sequence[GoalExample]) -> Floats:
    rng = np.random.default_rng(0)
    distance = rng.uniform(_NEAREST_M, _FARTHEST_M, (len(examples), SAMPLES))
    direction = rng.uniform(-np.pi, np.pi, (len(examples), SAMPLES))
    ends = np.stack([distance * np.cos(direction), distance * np.sin(direction)], axis=-1)
    return _away(ends, examples)


def _within(name: str, distances: list[Floats]) -> dict[str, float]:
    return {
        f"{name}within_{near * 100:.0f}cm": _mean([(each < near).mean(axis=1) for each in distances]) for near in NEAR_M
    }


def _mean(values: Sequence[Floats] | Sequence[float]) -> float:
    return float(np.mean(np.concatenate([np.atleast_1d(value) for value in values]))) if len(values) else float("nan")
