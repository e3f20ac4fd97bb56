"""Random numbers of a search: each place of the search tree has streams of its own.

A stream is named by (seed, environment, episode, purpose, action path, object) and by nothing else. So a draw depends
neither on the depth limit, nor on what was visited before, nor on which worker runs the search, and planners that
visit the same place see the same numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

Purpose = Literal["objects", "goals", "epsilon objects", "epsilon goals", "query"]
# The objects and the numbers of their goals, from the start of the plan on.
ActionPath = tuple[tuple[str, int], ...]
_WORD_BYTES, _WORDS = 4, 4


@dataclass(frozen=True)
class SearchKey:
    """Which search this is. environment: index of the scene; episode: number of the search in it."""

    seed: int
    environment: int
    episode: int


def stream(key: SearchKey, purpose: Purpose, path: ActionPath, name: str = "") -> np.random.Generator:
    """A fresh generator at the beginning of the stream. name: of the object, if it is about one."""
    digest = _digest(key, purpose, path, name)
    words = [int.from_bytes(digest[i * _WORD_BYTES : (i + 1) * _WORD_BYTES], "little") for i in range(_WORDS)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def number(key: SearchKey, purpose: Purpose, path: ActionPath, name: str = "") -> int:
    """0 ≤ number < 2**63, from the same names."""
    return int.from_bytes(_digest(key, purpose, path, name)[:8], "little") >> 1


def _digest(key: SearchKey, purpose: str, path: ActionPath, name: str) -> bytes:
    # MessagePack marks where each part ends, so that no two keys can read the same.
    text = msgspec.msgpack.encode((key.seed, key.environment, key.episode, purpose, path, name))
    return hashlib.blake2b(text, digest_size=_WORD_BYTES * _WORDS).digest()
