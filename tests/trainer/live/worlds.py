"""Small real datasets and the samples that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from protocol.dataset_view import DatasetView
from protocol.messages import Outcome
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded, write_dataset
from trainer import LiveDataset, Sample

SMALL = StreamSpec(
    "lab/small",
    rate_hz=20,
    max_steps=60,
    columns=(
        Column("action", "float32", (2,)),
        Column("observations/qpos", "float64", (3,)),
        Column("observations/touch", "bool"),
        Column("observations/count", "int64", (2, 2)),
    ),
)
SEEN = msgspec.structs.replace(SMALL, name="lab/seen", cameras=(Camera("front", 48, 64), Camera("wrist", 32, 32)))
LOW = Sample(chunk_size=4, cameras=())

Name = tuple[int, int, int]


def names(batches: Iterable[Any]) -> list[Name]:
    """(source, index, step) of every sample, in order."""
    return [name for batch in batches for name in names_of(batch)]


def names_of(batch: Any) -> list[Name]:
    return list(zip(batch["source"].tolist(), batch["index"].tolist(), batch["step"].tolist(), strict=True))


def expected(root: Path, stream: str | None = None, source: int = 0) -> set[Name]:
    """All samples of the successes, read another way."""
    with DatasetView(root) as view:
        return {
            (source, episode.index, step)
            for episode in view.new_episodes()
            if episode.outcome is Outcome.SUCCESS and stream in (None, episode.shard.spec.name)
            for step in range(episode.steps)
        }


def grow(root: Path, indices: Iterable[int], spec: StreamSpec = SMALL, **changes: Any) -> None:
    """Commit more episodes of 1 to 9 steps; every seventh index is VOID, every fifth a FAILURE."""
    write_dataset(root, [episode(index, **changes) for index in indices], spec, shard_bytes=1 << 16)


def episode(index: int, **changes: Any) -> Recorded:
    outcome = Outcome.VOID if index % 7 == 4 else Outcome.FAILURE if index % 5 == 3 else Outcome.SUCCESS
    fields: dict[str, Any] = {"steps": 1 + index * 7 % 9, "outcome": outcome, "document": b"small"}
    return Recorded(index, **{**fields, **changes})


def take(data: LiveDataset, count: int) -> list[Any]:
    """The next batches."""
    return list(data.batches(count))


def flat(values: Any) -> Iterator[float]:
    return iter(np.asarray(values).reshape(-1).tolist())
