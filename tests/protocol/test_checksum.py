"""Checksums, computed again by gluing all bytes together."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from protocol.checksum import document_checksum, episode_checksum, frame_checksum, row_checksum


def test_known_values() -> None:
    # XXH3-64 of nothing, from the reference implementation.
    assert document_checksum(b"") == 0x2D06800538D394C2
    assert frame_checksum(b"") == 0x38D394C2


@given(st.binary(max_size=300))
def test_a_frame_has_the_low_half_of_what_a_document_has(data: bytes) -> None:
    assert frame_checksum(data) == document_checksum(data) % 2**32 == frame_checksum(memoryview(data))


@given(
    cameras=st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), max_size=3),
    states=st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6),
    attributes=st.binary(max_size=50),
)
def test_an_episode_is_frames_then_columns_then_attributes(
    cameras: list[list[int]], states: list[float], attributes: bytes
) -> None:
    glued = b"".join(struct.pack("<3I", *frames) for frames in cameras)
    glued += struct.pack("<6f", *states) + struct.pack("<3q", 1, 2, 3) + attributes
    columns = [np.array(states, "<f4").reshape(3, 2), np.array([1, 2, 3], "<i8")]
    found = episode_checksum([np.array(frames, "<u4") for frames in cameras], columns, attributes)
    assert found == xxhash.xxh3_64(glued).intdigest()


@pytest.mark.parametrize(
    "column",
    [
        np.arange(24, dtype="<f4").reshape(4, 6),
        np.asfortranarray(np.arange(24, dtype="<f4").reshape(4, 6)),
        np.repeat(np.arange(24, dtype="<f4"), 2).reshape(4, 12)[:, ::2],
        np.arange(24, dtype=">f4").reshape(4, 6),
    ],
    ids=["plain", "column-major", "strided", "big-endian"],
)
def test_the_values_count_not_the_memory_they_lie_in(column: np.ndarray) -> None:
    plain = struct.pack("<24f", *range(24))
    assert episode_checksum([], [column], b"") == episode_checksum([], [plain], b"") == document_checksum(plain)


def test_order_matters() -> None:
    first, second = np.array([1], "<u4"), np.array([2], "<u4")
    assert episode_checksum([first, second], [], b"") != episode_checksum([second, first], [], b"")


def test_a_row_in_another_place_has_another_checksum() -> None:
    assert row_checksum(b"row", 3) == xxhash.xxh3_64(b"row", seed=3).intdigest()
    assert row_checksum(b"row", 3) != row_checksum(b"row", 4)
