"""The frames that benches send."""

from __future__ import annotations

import pytest

from deploy.bench.frames import jpeg_frames
from protocol.errors import ConfigurationError
from protocol.jpeg import decode


@pytest.mark.parametrize(("target", "height", "width"), [(75_000, 480, 640), (4_000, 96, 128)])
def test_frames_have_the_size_that_was_asked_for(target: int, height: int, width: int) -> None:
    frames = jpeg_frames(6, target, height, width)
    assert all(abs(len(frame) - target) < 0.03 * target for frame in frames), list(map(len, frames))
    assert {decode(frame).shape for frame in frames} == {(height, width, 3)}


def test_frames_differ_and_are_a_function_of_the_seed() -> None:
    frames = jpeg_frames(8, 4_000, 96, 128, seed=3)
    assert len(set(frames)) == 8
    assert frames == jpeg_frames(8, 4_000, 96, 128, seed=3)
    assert not set(frames) & set(jpeg_frames(8, 4_000, 96, 128, seed=4))


def test_a_size_that_no_frame_can_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="asked for 75000"):
        jpeg_frames(1, 75_000, 32, 32)
