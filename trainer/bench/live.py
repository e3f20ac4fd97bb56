"""`python -m trainer.bench.live SETTINGS`: random samples of a LiveDataset, on one core.

Settings: data, samples, chunk, batch, dtype ("uint8" or "float32"), core. A turn opens the dataset anew, outside of
what is timed: whatever it mapped before would keep its pages in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from trainer import LiveDataset, Loading, Order, Sample
from trainer.bench.turns import Clock, serve, settings_of


def measure(settings: dict[str, Any], turns: Iterator[int]) -> dict[str, float]:
    """Samples and times of one turn; each has an order of its own."""
    sample = Sample(chunk_size=settings["chunk"], image_dtype=settings["dtype"])
    order, loading = Order(mode="frozen", seed=next(turns)), Loading(batch_size=settings["batch"])
    with LiveDataset(settings["data"], sample, order=order, loading=loading) as data:
        done, began = 0, Clock()
        for batch in data.batches(steps=-(-settings["samples"] // settings["batch"])):
            done += len(batch["step"])
        return {"samples": done, **began.passed()}


if __name__ == "__main__":
    chosen = settings_of(sys.argv)
    serve(chosen, partial(measure, chosen, count()))
