"""Samples that a server gave on /metrics, for those who show them: sums by label, what was added, quantiles."""

from __future__ import annotations

import math
from collections.abc import Mapping

# (name of a sample, its labels in order) → value
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def by_label(samples: Samples, name: str, label: str) -> dict[str, float]:
    """The samples of one metric by one of its labels, summed up over the others."""
    found: dict[str, float] = {}
    for (sample, labels), value in samples.items():
        if sample == name:
            key = dict(labels).get(label, "")
            found[key] = found.get(key, 0.0) + value
    return found


def total(samples: Samples, name: str) -> float:
    """Of all series of one metric."""
    return sum(value for (sample, _), value in samples.items() if sample == name)


def since(before: Samples | None, now: Samples) -> Samples:
    """What was added between two looks; all of it if there is only one, or the server began anew."""
    if before is None or any(now.get(key, 0.0) < value for key, value in before.items() if key[0].endswith("_total")):
        return now
    return {key: value - before.get(key, 0.0) for key, value in now.items()}


def quantile(share: float, samples: Samples, name: str) -> float:
    """Of a histogram, linear within its bucket as in Prometheus; NaN without observations."""
    buckets = sorted((float(le), count) for le, count in by_label(samples, f"{name}_bucket", "le").items())
    if not buckets or not buckets[-1][1]:
        return math.nan
    wanted, low, below = share * buckets[-1][1], 0.0, 0.0
    for high, count in buckets:
        if count >= wanted:
            if math.isinf(high):
                return low
            return low + (high - low) * (wanted - below) / (count - below) if count > below else high
        low, below = high, count
    return low
