"""The seed of an episode."""

from __future__ import annotations

import numpy as np


def episode_seed(base: int, index: int) -> int:
    """0 ≤ seed < 2**32: a function of the base seed and the episode's index alone."""
    return int(np.random.SeedSequence([base, index]).generate_state(1)[0])
