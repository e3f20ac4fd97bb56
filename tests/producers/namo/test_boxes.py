"""Overlap of oriented boxes, against points that lie in both."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.namo import boxes
from producers.namo.boxes import Rows

_SIDE = st.floats(0.2, 2)
_PLACE = st.floats(-2, 2)
_BOX = st.tuples(_PLACE, _PLACE, st.floats(-4, 4), _SIDE, _SIDE).map(np.array)
_SHRUNK = 0.05


def _points(row: Rows) -> Rows:
    """A lattice over a box, its sides included, finer than _SHRUNK · √2."""
    x, y, yaw, half_x, half_y = row
    along, across = np.meshgrid(np.linspace(-half_x, half_x, 65), np.linspace(-half_y, half_y, 65))
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([x + cos * along - sin * across, y + sin * along + cos * across], axis=-1).reshape(-1, 2)


def _some_point_in_both(one: Rows, other: Rows) -> bool:
    x, y, yaw, half_x, half_y = other
    dx, dy = (_points(one) - (x, y)).T
    inside_x = np.abs(np.cos(yaw) * dx + np.sin(yaw) * dy) <= half_x
    return bool((inside_x & (np.abs(np.cos(yaw) * dy - np.sin(yaw) * dx) <= half_y)).any())


@given(_BOX, _BOX)
def test_boxes_that_share_a_point_overlap_and_boxes_that_overlap_well_share_one(one: Rows, other: Rows) -> None:
    shared = _some_point_in_both(one, other)
    if shared:
        assert boxes.overlaps(one, other[None], gap=1e-9)[0]
    # A point that two boxes share after both lost 5 cm on each side has 5 cm of both around it.
    if boxes.overlaps(one, other[None], gap=-2 * _SHRUNK)[0]:
        assert shared


@given(_BOX, _BOX)
def test_overlap_does_not_depend_on_who_is_asked(one: Rows, other: Rows) -> None:
    for gap in (-0.05, 0.05):
        assert boxes.overlaps(one, other[None], gap)[0] == boxes.overlaps(other, one[None], gap)[0]


def test_a_gap_counts_on_both_sides() -> None:
    one, other = np.array([0, 0, 0, 1, 1.0]), np.array([[2.1, 0, np.pi / 2, 1, 1.0]])
    assert not boxes.overlaps(one, other)[0]
    assert not boxes.overlaps(one, other, gap=0.09)[0]
    assert boxes.overlaps(one, other, gap=0.11)[0]


@given(_BOX, _PLACE, _PLACE)
def test_the_distance_of_a_point_is_that_to_the_nearest_point_of_the_box(row: Rows, x: float, y: float) -> None:
    nearest = np.hypot(*(_points(row) - (x, y)).T).min()
    assert -1e-9 <= nearest - boxes.distances(x, y, row[None])[0] < 0.05


def test_bounds_respect_the_yaw() -> None:
    wall = np.array([[1, 2, np.pi / 2, 3, 0.5]])
    assert np.allclose(boxes.bounds(wall), (0.5, 1.5, -1, 5))
