"""Random numbers that are functions: a split or an order must not depend on numpy's version or on who asked before."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def mix(values: Keys) -> Keys:
    """splitmix64's finaliser (Steele et al. 2014): neighbouring numbers to unrelated ones, none twice. uint64[…]"""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def key_of(*values: object) -> int:
    """A number for anything that JSON can hold, 0 to 2^64 - 1."""
    digest: int = xxhash.xxh3_64_intdigest(msgspec.json.encode(values, order="sorted"))
    return digest


def keys_of(indices: NDArray[np.integer[Any]], *values: object) -> Keys:
    """A key for each index, uint64[n]; `values` say whose indices they are."""
    return mix(indices.astype(np.uint64) ^ np.uint64(key_of(*values)))


def fractions(keys: Keys) -> NDArray[np.float64]:
    """Keys as numbers in [0, 1), float64[n]."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
