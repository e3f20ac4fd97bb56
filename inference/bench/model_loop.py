"""The goal model called in a loop, without a server: `python -m inference.bench.model_loop MODELS SECONDS`.

Prints queries/s at the best batch size and number of threads, as JSON. The queries are decoded already and the answers
thrown away.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from inference.namo_models import BUCKETS
from inference.published_source import PublishedSource
from inference.warm_up import example_queries


def main(models: Path, seconds: float) -> None:
    """Each batch size in turn, several times, so that a slow moment hits none of them alone."""
    source = PublishedSource(models, "cpu")
    model = source.load("goal", source.current("goal"))
    asked = [(query, query.reachable[0]) for query in example_queries(BUCKETS[-1])]
    model.warm_up(BUCKETS[-1])
    turns = 3
    ways = [(threads, size) for threads in sorted({1, len(os.sched_getaffinity(0))}) for size in BUCKETS]
    done, spent = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    for _ in range(turns):
        for threads, size in ways:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            ends = began + seconds / turns / len(ways)
            while (now := time.perf_counter()) < ends:
                model.sample(asked[:size])
                done[threads, size] += size
            spent[threads, size] += now - began
    per_s = {f"{threads} threads, batch {size}": done[threads, size] / spent[threads, size] for threads, size in ways}
    sys.stdout.write(json.dumps({"per_s": max(per_s.values()), "by_way": per_s}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
