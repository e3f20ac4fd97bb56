"""A small model for comparing servers: three convolutions over five masks of 64 × 64, drawn from the query.

It is imported by the peers' programs too, in their own virtual environments: torch, numpy and msgspec are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protocol.namo.masks import draw
from protocol.namo.queries import (
    Answer,
    ModelInfo,
    PushGoal,
    Query,
    RankedObject,
    Timing,
    check_query,
    decode_from_client,
    encode,
)

NAME = "small"
_CHANNELS = 5


class SmallModel:
    """Scores the reachable objects with the outputs of the last layer."""

    info = ModelInfo(NAME, "object", "1", 0)
    drawn_s = 0.0

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((_CHANNELS, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self._network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 64)).eval().requires_grad_(False)

    def rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        """All reachable objects, in their order."""
        with torch.inference_mode():
            masks = torch.from_numpy(draw([query.view() for query in queries])[:, :_CHANNELS])
            scores: Tensor = self._network(masks.float()).softmax(1)
        return [_ranked(query, row) for query, row in zip(queries, scores.tolist(), strict=True)]

    def sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        """It has no goals."""
        raise NotImplementedError

    def warm_up(self, max_batch: int) -> None:
        """Nothing happens only once."""


def read(data: bytes) -> Query:
    """A query as a server has to read it. Raises QueryError."""
    query = decode_from_client(data)
    assert isinstance(query, Query)
    check_query(query)
    return query


def answered(query: Query, objects: tuple[RankedObject, ...]) -> bytes:
    """The answer as it goes over the wire."""
    timing = Timing(0.0, 0.0, 0.0, 1)
    return encode(Answer(id=query.id, objects=objects, goals=(), versions={NAME: "1"}, device="cpu", timing=timing))


def _ranked(query: Query, scores: list[float]) -> tuple[RankedObject, ...]:
    return tuple(RankedObject(name, score) for name, score in zip(query.reachable, scores, strict=False))
