"""How long a sink takes to start on a dataset of a million episodes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from deploy.bench.sink.children import Child, children
from deploy.processes import start_sink

EPISODES = 1_000_000
RUNS = 3


def restart_s(root: Path) -> list[float]:
    """From the start of the process to READY [s], several times on the same dataset."""
    data = root / "million"
    with children() as started:
        words = ["--data", str(data), "--episodes", str(EPISODES)]
        started.append(Child("sink.bench.generate", words, root / "generate.log"))
        started[0].ended_well()
    times = []
    for _ in range(RUNS):
        began = time.monotonic()
        sink, _, _ = start_sink(data, root / "logs")
        times.append(time.monotonic() - began)
        sink.stop()
    shutil.rmtree(data)
    return times
