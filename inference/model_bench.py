"""How fast is a model when it is called in a loop, by batch size? What a server can be compared with.

python -m inference.model_bench --models MODELS --json FILE
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tyro

from inference.namo_models import BUCKETS, ServedGoalModel, ServedObjectModel, load_model
from inference.warm_up import example_queries
from protocol.namo.queries import Query
from protocol.published import model_names, open_published


@dataclass(frozen=True)
class BenchFlags:
    """Call each published model in a loop and say how many queries it answers in a second, by batch size."""

    models: Path
    """Directory of published models."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 1
    """Threads of torch."""
    samples: int = 32
    """Samples for each query of a goal model."""
    movables: int = 10
    """Movables in each scene."""
    seconds: float = 1.0
    """How long each batch size of each model is measured [s]."""
    json: Path | None = None
    """Also write the figures here."""


@dataclass(frozen=True)
class Speed:
    """One batch size of one model. ms: median of a batch; per_s: queries in a second, over all of the time."""

    model: str
    kind: str
    parameters: int
    batch: int
    ms: float
    p99_ms: float
    per_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all. Raises ModelError."""
    flags = tyro.cli(BenchFlags, prog="python -m inference.model_bench", args=argv)
    found: list[Speed] = []
    for name in model_names(flags.models):
        model = load_model(open_published(flags.models, name), flags.device, flags.threads)
        found += measure(model, flags.samples, flags.movables, flags.seconds)
    for speed in found:
        sys.stdout.write(
            f"{speed.model:<12} batch {speed.batch:>2}: {speed.ms:7.2f} ms (p99 {speed.p99_ms:7.2f})"
            f" {speed.per_s:8.0f} queries/s\n"
        )
    if flags.json is not None:
        flags.json.write_text(json.dumps([asdict(speed) for speed in found], indent=1) + "\n")
    return 0


def measure(
    model: ServedObjectModel | ServedGoalModel, samples: int = 32, movables: int = 10, seconds: float = 1.0
) -> list[Speed]:
    """Each batch size for so many seconds, interleaved, so that what disturbs one disturbs all."""
    queries = example_queries(BUCKETS[-1], movables, samples)
    model.warm_up(BUCKETS[-1])
    calls = {1: _call(model, queries[:1])} | {size: _call(model, queries[:size]) for size in BUCKETS}
    taken: dict[int, list[float]] = {size: [] for size in calls}
    while any(sum(times) < seconds for times in taken.values()):
        for size, call in calls.items():
            begin = time.perf_counter()
            call()
            taken[size].append(time.perf_counter() - begin)
    return [_speed(model, size, times) for size, times in taken.items()]


def best(speeds: Sequence[Speed]) -> Speed:
    """The batch size that answers most queries in a second."""
    return max(speeds, key=lambda speed: speed.per_s)


def _call(model: ServedObjectModel | ServedGoalModel, queries: Sequence[Query]) -> Callable[[], object]:
    if isinstance(model, ServedObjectModel):
        return partial(model.rank, queries)
    return partial(model.sample, [(query, query.reachable[0]) for query in queries])


def _speed(model: ServedObjectModel | ServedGoalModel, size: int, times: list[float]) -> Speed:
    info = model.info
    slow = sorted(times)[min(len(times) - 1, int(0.99 * len(times)))]
    return Speed(
        model=info.name,
        kind=info.kind,
        parameters=info.parameters,
        batch=size,
        ms=round(1e3 * statistics.median(times), 3),
        p99_ms=round(1e3 * slow, 3),
        per_s=round(size * len(times) / sum(times), 1),
    )


if __name__ == "__main__":
    sys.exit(main())
