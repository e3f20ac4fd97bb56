"""Temporal ensembling against sums done step by step, and open-loop chunks."""

from __future__ import annotations

import numpy as np
import pytest

from producers.action_chunks import OpenLoop, TemporalEnsemble


@pytest.mark.parametrize(("chunk", "steps", "rate"), [(5, 13, 0.01), (4, 9, 0.5), (1, 3, 0.01), (6, 4, 0.01)])
def test_temporal_ensembling(chunk: int, steps: int, rate: float) -> None:
    """As the paper has it: a table of all predictions, and w_i = exp(-rate · i) with i = 0 the oldest."""
    predicted = np.random.default_rng(0).normal(size=(steps, chunk, 2)).astype(np.float32)
    predicted[2, 0] = 0  # the original takes zeros for predictions that are not there
    table = np.full((steps, steps + chunk, 2), np.nan)
    ensemble = TemporalEnsemble(chunk, rate)
    for step in range(steps):
        assert ensemble.wants_chunk
        ensemble.add(predicted[step])
        table[step, step : step + chunk] = predicted[step]
        rows = table[:, step]
        seen = rows[~np.isnan(rows[:, 0])]
        assert len(seen) == min(step + 1, chunk)
        weights = np.exp(-rate * np.arange(len(seen)))
        expected = (seen * weights[:, None]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(ensemble.action(), expected, rtol=1e-5, atol=1e-6)


def test_open_loop() -> None:
    chunks = np.arange(24, dtype=np.float32).reshape(2, 6, 2)
    policy = OpenLoop(4)
    done = []
    asked = 0
    for _ in range(7):
        if policy.wants_chunk:
            policy.add(chunks[asked])
            asked += 1
        done.append(policy.action())
    assert asked == 2
    np.testing.assert_array_equal(done, [*chunks[0, :4], *chunks[1, :3]])
