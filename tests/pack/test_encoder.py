"""Whatever the frames are: as many as went in, each in its place, each good enough, from three packets at most."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol import jpeg
from protocol.packing import Packing, coded_order, needed
from protocol.spec import Camera
from protocol.video import VideoDecoder
from sink.pack.encoder import Quality, encode, psnr_db


def film(height: int, width: int, steps: int, block: int) -> list[NDArray[np.uint8]]:
    """A mosaic of random colours that moves: nothing in it is symmetric."""
    rng = np.random.default_rng(height)
    tiles = rng.integers(60, 190, (1 + height // block, 1 + width // block, 3), np.uint8)
    mosaic = np.kron(tiles, np.ones((block, block, 1), np.uint8))[:height, :width]
    return [np.roll(mosaic, step, 1) for step in range(steps)]


@pytest.mark.parametrize(
    ("height", "width", "steps", "gop"),
    [(48, 64, 33, 16), (33, 35, 7, 3), (20, 16, 5, 1), (20, 16, 5, 2), (24, 24, 20, 18), (1, 1, 2, 16)],
)
def test_every_step_is_decoded_from_what_it_needs_alone(height: int, width: int, steps: int, gop: int) -> None:
    camera = Camera("front", height, width)
    jpegs = [jpeg.encode(image) for image in film(height, width, steps, block=5)]
    video = encode(lambda: iter(jpegs), steps, camera, Quality(gop=gop))
    assert len(video.packets) == len(video.psnr_db) == steps
    packing = Packing("h264", gop, "")
    for step in range(steps):
        first, count = packing.group(step, steps)
        packets = {number: video.packets[first + number] for number in needed(step - first, count)}
        assert len(packets) <= 3
        image = VideoDecoder().image("a group", count, step - first, packets.__getitem__, camera)
        assert psnr_db(image, jpeg.decode(jpegs[step])) == pytest.approx(video.psnr_db[step])
    assert min(video.psnr_db) >= 38


def test_what_is_easy_is_small_and_what_is_hard_gets_more_bytes() -> None:
    camera, still = Camera("front", 96, 128), film(96, 128, 1, block=24) * 16
    jpegs = [jpeg.encode(image) for image in still]
    easy = encode(lambda: iter(jpegs), 16, camera, Quality())
    assert sum(map(len, easy.packets)) * 5 < sum(map(len, jpegs))
    finer = encode(lambda: iter(jpegs), 16, camera, Quality(least_db=min(easy.psnr_db) + 1))
    assert min(finer.psnr_db) > min(easy.psnr_db)


def test_the_order_of_packets() -> None:
    assert [needed(place, 5) for place in range(5)] == [(0,), (0, 4, 1), (0, 4, 2), (0, 4, 3), (0, 4)]
    assert (coded_order(5), coded_order(1), needed(0, 1)) == ((0, 4, 1, 2, 3), (0,), (0,))
