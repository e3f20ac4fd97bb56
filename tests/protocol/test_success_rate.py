"""Wilson's interval against published and calculated values."""

from __future__ import annotations

import pytest

from protocol.success_rate import wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    # Wallis 2013, and the closed forms at the ends: z²/(n+z²).
    [(0, 0, (0, 1)), (0, 10, (0, 0.27753)), (10, 10, (0.72247, 1)), (81, 263, (0.25525, 0.36617))],
)
def test_wilson(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)
