"""Scores and choice among samples, against the definition written out."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.goal_choice import (
    BANDWIDTH_M,
    METRES_A_RADIAN,
    SAME_M,
    SAME_RAD,
    SCORE_DIGITS,
    choose,
    rounded_poses,
)

ROOM = np.array([[-1.0, 1.0, -2.0, 2.0]])


def gap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    turn = abs(a[2] - b[2])
    return math.hypot(a[0] - b[0], a[1] - b[1]), min(turn, 2 * math.pi - turn)


def by_definition(poses: np.ndarray, wanted: int) -> list[tuple[int, float]]:
    scores = []
    for a in poses:
        terms = []
        for b in poses:
            away, turn = gap(a, b)
            terms.append(math.exp(-(away**2 + (METRES_A_RADIAN * turn) ** 2) / (2 * BANDWIDTH_M**2)))
        scores.append(round(sum(terms) / len(terms), SCORE_DIGITS))
    chosen: list[tuple[int, float]] = []
    for place in sorted(range(len(poses)), key=lambda i: (-scores[i], i)):
        x, y, _ = poses[place]
        apart = all(
            gap(poses[place], poses[o])[0] > SAME_M or gap(poses[place], poses[o])[1] > SAME_RAD for o, _ in chosen
        )
        if -1 <= x <= 1 and -2 <= y <= 2 and apart and len(chosen) < wanted:
            chosen.append((place, scores[place]))
    return chosen


moves = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12), st.just(3)), elements=st.floats(-2, 2, width=32)
)


@settings(max_examples=100, deadline=None)
@given(moves, st.integers(1, 6))
def test_choice(moves: np.ndarray, wanted: int) -> None:
    start = np.tile([[0.5, -0.5, 3.0]], (len(moves), 1))
    poses = rounded_poses(start, moves * np.float32(0.5))
    chosen, scores = choose(poses, np.tile(ROOM, (len(moves), 1)), wanted)
    assert chosen.shape == scores.shape == (len(moves), wanted)
    for item in range(len(moves)):
        found = [
            (int(place), float(score)) for place, score in zip(chosen[item], scores[item], strict=True) if place >= 0
        ]
        expected = by_definition(poses[item], wanted)
        assert len(found) == len(expected)
        # A tie in the last digit of a score may go either way in the definition's own sums.
        np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=2 * 10.0**-SCORE_DIGITS)


def test_poses_are_rounded_and_wrapped() -> None:
    poses = rounded_poses(np.array([[1.0, 2.0, 3.0]]), np.array([[[0.10004, -0.1, 1.0]]], np.float32))
    np.testing.assert_array_equal(poses, [[[1.1, 1.9, round(4.0 - 2 * math.pi, 3)]]])


def test_samples_that_agree_are_one_goal() -> None:
    poses = rounded_poses(np.zeros((1, 3)), np.zeros((1, 32, 3), np.float32))
    chosen, scores = choose(poses, ROOM, 5)
    assert chosen.tolist() == [[0, -1, -1, -1, -1]]
    assert scores[0, 0] == 1.0


def test_a_turn_across_half_a_turn_is_small() -> None:
    poses = np.array([[[0, 0, 3.14], [0, 0, -3.14], [0, 0, 0.0]]])
    assert (choose(poses, ROOM, 3)[0] >= 0).sum() == 2


def test_nothing_outside_of_the_bounds() -> None:
    poses = np.array([[[1.5, 0, 0], [0, -2.5, 0.0]]])
    assert (choose(poses, ROOM, 2)[0] == -1).all()
