"""Hypothesis strategies for what the protocol speaks of."""

from __future__ import annotations

from hypothesis import strategies as st

from protocol.spec import DTYPES, Camera, Column, StreamSpec

_part = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)


def columns() -> st.SearchStrategy[Column]:
    """Small columns; none is in the folder of another."""
    shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)
    names = st.builds("/".join, st.lists(_part.filter(lambda part: part != "images"), min_size=2, max_size=2))
    return st.builds(Column, names, st.sampled_from(DTYPES), shapes, st.booleans())


def cameras() -> st.SearchStrategy[Camera]:
    """Small cameras."""
    return st.builds(Camera, _part, st.integers(1, 64), st.integers(1, 64))


def specs() -> st.SearchStrategy[StreamSpec]:
    """Specs that pass their own check."""
    return st.builds(
        StreamSpec,
        name=st.builds("/".join, st.lists(_part, min_size=1, max_size=3)),
        rate_hz=st.integers(1, 1000).map(float) | st.floats(0.5, 1000),
        max_steps=st.integers(1, 100),
        columns=st.lists(columns(), max_size=4, unique_by=lambda column: column.name).map(tuple),
        cameras=st.lists(cameras(), max_size=3, unique_by=lambda camera: camera.name).map(tuple),
    )
