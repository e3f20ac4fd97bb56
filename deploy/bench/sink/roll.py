"""What rolling to the next shard costs: two producers at a steady rate, on shards that fill every second."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.sink.children import Child, children
from deploy.processes import ProgramError, start_sink

SHARD_MIB = 64
EPISODES = 400  # a producer
STEPS = 10
RATE = 40.0  # episodes a second and producer
_PRODUCERS = 2


@dataclass(frozen=True)
class Rolls:
    """delays_ms: End → Committed of each episode. shards: how many were filled."""

    delays_ms: list[float]
    shards: int


def measure(root: Path, frames: Path) -> Rolls:
    """Publish, and look at each acknowledgement."""
    data = root / "rolling"
    sink, endpoint, _ = start_sink(data, root / "logs", ["--shard-mib", str(SHARD_MIB), "--max-producers", "8"])
    try:
        with children() as started:
            words = ["--sink", endpoint, "--frames", str(frames), "--episodes", str(EPISODES)]
            words += ["--steps", str(STEPS), "--rate", str(RATE)]
            for number in range(_PRODUCERS):
                started.append(Child("producers.bench.load", words, root / f"roll-{number}.log"))
            results = [child.result() for child in started]
    finally:
        sink.stop()
    delays = [1e3 * (found["acked"][index] - found["ended"][index]) for found in results for index in found["acked"]]
    shards = len(list(data.rglob("0*.h5")))
    if len(delays) != _PRODUCERS * EPISODES or shards < 3:
        raise ProgramError(f"{len(delays)} episodes in {shards} shards: too few to tell what rolling costs")
    shutil.rmtree(data)
    return Rolls(delays, shards)
