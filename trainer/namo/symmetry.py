"""The eight symmetries of the square, applied to what the models see and learn.

A turned scene is as good an example as the original: pushing knows no north. The mask is a square round the scene's
middle, so a quarter turn carries pixels to pixels. Number s: mirrored left to right if s ≥ 4, then turned by s % 4
quarter turns counter-clockwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SYMMETRIES = 8
_COS, _SIN = (1, 0, -1, 0), (0, 1, 0, -1)
Floats = NDArray[np.float32]


def matrix(symmetry: int) -> NDArray[np.float64]:
    """float64[2, 2]: applied to column vectors x, y."""
    cos, sin = _COS[symmetry % 4], _SIN[symmetry % 4]
    turn = np.array([(cos, -sin), (sin, cos)], np.float64)
    return turn @ np.diag((-1.0, 1.0)) if symmetry >= 4 else turn


def of_masks(masks: NDArray[np.bool_], symmetry: int) -> NDArray[np.bool_]:
    """Of masks [..., 64, 64] whose rows count y upwards."""
    if symmetry >= 4:
        masks = masks[..., ::-1]
    # Rows count upwards, so the turn that looks counter-clockwise in the world goes from x (columns) to y (rows).
    return np.rot90(masks, -(symmetry % 4), axes=(-2, -1))


def of_points(points: Floats, symmetry: int) -> Floats:
    """Of points [..., 2], x and y in −1 … 1 over the mask."""
    turned: Floats = (points @ matrix(symmetry).T).astype(np.float32)
    return turned


def of_numbers(numbers: Floats, symmetry: int) -> Floats:
    """Of numbers [..., NUMBERS] as `places` makes them; rows that are all zero (padding) stay so."""
    turn, found = matrix(symmetry), numbers.copy()
    found[..., 0:2] = (numbers[..., 0:2] - 0.5) @ turn.T + 0.5
    found[..., 2:4] = numbers[..., 2:4] @ turn.T
    found[..., 4:6] = numbers[..., 4:6] @ turn.T
    # Twice the yaw: a mirror image has the opposite one, and a quarter turn adds half a turn.
    mirrored = 1.0 - 2.0 * (symmetry >= 4)
    half_turns = 1.0 - 2.0 * (symmetry % 2)
    found[..., 8] = numbers[..., 8] * half_turns
    found[..., 9] = numbers[..., 9] * half_turns * mirrored
    found[~numbers.any(axis=-1)] = 0.0
    return found


def of_moves(moves: Floats, symmetry: int) -> Floats:
    """Of moves [..., 3]: displacement in the world's axes [m], turn [rad]."""
    found = moves.copy()
    found[..., :2] = moves[..., :2] @ matrix(symmetry).T
    found[..., 2] = -moves[..., 2] if symmetry >= 4 else moves[..., 2]
    return found
