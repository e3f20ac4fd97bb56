"""Statistics of an episode as LeRobot computes them: mean, standard deviation, extremes and five quantiles.

Its quantiles come from a histogram of 5000 bins between the extremes, interpolated inside a bin, and those of a whole
dataset are the mean of the episodes' quantiles, weighted by steps. They are repeated here step by step, because what
LeRobot computes from a copy of the dataset should be the same. There is one exception: it squares the bytes of pictures
in eight bits, where they overflow, and so its standard deviation of pictures is wrong; here it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# name of a statistic → its values; `count` is int64[1].
Statistics = dict[str, NDArray[Any]]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_BINS = 5000
_MARGIN = 1e-10
# Of an episode of up to 500 steps 100 pictures are looked at, of a longer one steps ** 0.75.
_FEWEST, _MOST, _POWER = 100, 10_000, 0.75
# Of a picture with a side of 300 pixels or more only every k-th row and column counts.
_SMALL, _TARGET = 300, 150
_LEVELS = np.arange(256, dtype=np.float64)


def of_column(values: NDArray[Any]) -> Statistics:
    """values: [T, n], or [T, …, n], where all but the last axis count as time, as in LeRobot. Gives float64[n] each.

    NaN are left out; where nothing else is, everything is 0.
    """
    table = np.asarray(values, dtype=np.float64).reshape(-1, values.shape[-1])
    columns = [_of_values(column, None) for column in table.T]
    return _stack(columns, len(values))


def of_pictures(levels: NDArray[np.int64], pictures: int) -> Statistics:
    """levels: int64[3, 256], how often each value occurs in red, green, blue. Gives float64[3, 1, 1] from 0 to 1."""
    found = _stack([_of_values(_LEVELS, weights.astype(np.float64)) for weights in levels], pictures)
    return {name: row if name == "count" else row.reshape(3, 1, 1) / 255 for name, row in found.items()}


def count_levels(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """int64[3, 256] of the pixels of an RGB picture that LeRobot would look at."""
    height, width, _ = image.shape
    longer = max(height, width)
    skip = 1 if longer < _SMALL else longer // _TARGET
    chosen = image[::skip, ::skip].reshape(-1, 3)
    return np.stack([np.bincount(chosen[:, channel], minlength=256) for channel in range(3)])


def looked_at(steps: int) -> list[int]:
    """The steps whose pictures are looked at."""
    count = max(min(steps, _FEWEST), min(int(steps**_POWER), _MOST))
    found: list[int] = np.round(np.linspace(0, steps - 1, count)).astype(int).tolist()
    return found


def together(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Statistics:
    """The statistics of one feature over episodes, from those of the episodes."""
    counts = np.array([part["count"][0] for part in parts], dtype=np.int64)
    weights = counts.reshape(-1, *[1] * parts[0]["mean"].ndim) / counts.sum()
    means = np.stack([part["mean"] for part in parts])
    mean = (means * weights).sum(axis=0)
    variances = np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((variances * weights).sum(axis=0)),
        "count": np.array([counts.sum()]),
        **{name: (np.stack([part[name] for part in parts]) * weights).sum(axis=0) for name in QUANTILES},
    }


def _stack(columns: Sequence[Mapping[str, float]], count: int) -> Statistics:
    found: Statistics = {name: np.array([column[name] for column in columns]) for name in columns[0]}
    return {**found, "count": np.array([count], dtype=np.int64)}


def _of_values(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> dict[str, float]:
    """weights: how often each value occurs; once each if None."""
    there = ~np.isnan(values) if weights is None else weights > 0
    if not there.any():
        return dict.fromkeys(("min", "max", "mean", "std", *QUANTILES), 0.0)
    values, weights = values[there], None if weights is None else weights[there]
    mean = float(np.average(values, weights=weights))
    low, high = float(values.min()), float(values.max())
    found = {"min": low, "max": high, "mean": mean}
    found["std"] = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    if weights is None and len(values) == 1:
        return found | dict.fromkeys(QUANTILES, mean)
    edges = np.linspace(low - _MARGIN, high + _MARGIN, _BINS + 1)
    sums = np.cumsum(np.histogram(values, bins=edges, weights=weights)[0])
    return found | {name: _quantile(sums, edges, share) for name, share in QUANTILES.items()}


def _quantile(sums: NDArray[Any], edges: NDArray[np.float64], share: float) -> float:
    target = share * sums[-1]
    place = int(np.searchsorted(sums, target))
    if place == 0:
        return float(edges[0])
    before, inside = sums[place - 1], sums[place] - sums[place - 1]
    return float(edges[place] + (target - before) / inside * (edges[place + 1] - edges[place]))
