"""Which of many sampled push goals are given as an answer, and with what score.

A sample's score is the density of all samples around it: the mean over all samples of exp(−d² / 2h²), itself included,
with h = 0.1 m and a turn counted as 0.3 m for each radian. So the score lies in 0 … 1, and 1 means that all samples
agree. The best come first; one that is within 0.05 m and 0.1 rad of a better one adds nothing and is left out, as is
one whose centre lies outside of the scene's bounds.

All is done after rounding (1 mm, 1 mrad, 1e-4), so that the last bit of a sum cannot change the choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POSE_DIGITS, SCORE_DIGITS = 3, 4
BANDWIDTH_M = 0.1
METRES_A_RADIAN = 0.3
SAME_M, SAME_RAD = 0.05, 0.1

Poses = NDArray[np.float64]


def rounded_poses(start: Poses, moves: NDArray[np.float32]) -> Poses:
    """World poses float64[B, S, 3] of moves float32[B, S, 3] from start float64[B, 3]; yaw within −π … π."""
    poses = start[:, None] + moves
    poses[..., 2] = np.arctan2(np.sin(poses[..., 2]), np.cos(poses[..., 2]))
    return poses.round(POSE_DIGITS)


def choose(poses: Poses, bounds: Poses, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The places of up to `wanted` samples for each item, best first, and their scores.

    poses: float64[B, S, 3] from `rounded_poses`; bounds: float64[B, 4] x0, x1, y0, y1. Returns intp[B, wanted] with −1
    where there are no more, and float64[B, wanted].
    """
    metres, turns = _distances(poses)
    density = np.exp(-(metres**2 + (METRES_A_RADIAN * turns) ** 2) / (2 * BANDWIDTH_M**2)).mean(axis=2)
    scores = density.round(SCORE_DIGITS)
    same = (metres <= SAME_M) & (turns <= SAME_RAD)
    left = np.where(_inside(poses, bounds), scores, -1.0)
    items = np.arange(len(poses))
    chosen = np.full((len(poses), wanted), -1, np.intp)
    for rank in range(min(wanted, poses.shape[1])):
        best = left.argmax(axis=1)
        chosen[:, rank] = np.where(left[items, best] < 0, -1, best)
        if (chosen[:, rank] < 0).all():
            break
        left[same[items, best]] = -1.0
    return chosen, scores[items[:, None], chosen]


def _distances(poses: Poses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between all samples of an item, float64[B, S, S]: of centres [m], and of yaws [rad]."""
    away = poses[:, :, None] - poses[:, None]
    turns = np.abs(away[..., 2])
    return np.hypot(away[..., 0], away[..., 1]), np.minimum(turns, 2 * np.pi - turns)


def _inside(poses: Poses, bounds: Poses) -> NDArray[np.bool_]:
    x, y = poses[..., 0], poses[..., 1]
    x0, x1, y0, y1 = (bounds[:, i, None] for i in range(4))
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
