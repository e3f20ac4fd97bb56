"""JPEG against PyTurboJPEG, an independent binding of libjpeg-turbo, and Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from turbojpeg import TJPF_RGB, TurboJPEG

from protocol import jpeg
from protocol.errors import EpisodeError
from protocol.spec import Camera

CAMERA = Camera("front", 48, 64)
FLAT = np.full((48, 64, 3), 99, np.uint8)


@pytest.fixture(scope="module")
def turbo() -> TurboJPEG:
    return TurboJPEG()


def corners() -> NDArray[np.uint8]:
    """Red above green, blue above white: no flip, no turn and no swap of channels leaves it as it is."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[24:, :32] = (255, 0, 0), (0, 255, 0)
    image[:24, 32:], image[24:, 32:] = (0, 0, 255), (255, 255, 255)
    return image


def assert_alike(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Equal but for what JPEG loses, away from the edges of the corners."""
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    for rows in (slice(0, 20), slice(28, 48)):
        for sides in (slice(0, 28), slice(36, 64)):
            difference = np.abs(found[rows, sides].astype(int) - expected[rows, sides].astype(int))
            assert difference.max() <= 6


def test_another_decoder_reads_what_we_write(turbo: TurboJPEG) -> None:
    assert_alike(turbo.decode(jpeg.encode(corners()), pixel_format=TJPF_RGB), corners())


def test_we_read_what_another_encoder_writes(turbo: TurboJPEG) -> None:
    assert_alike(jpeg.decode(turbo.encode(corners(), quality=95, pixel_format=TJPF_RGB)), corners())


def test_pillow_sees_the_same_picture() -> None:
    with Image.open(io.BytesIO(jpeg.encode(corners()))) as image:
        assert image.size == (64, 48)
        assert_alike(np.asarray(image.convert("RGB")), corners())


def test_chroma_is_halved_and_quality_changes_the_size(turbo: TurboJPEG) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    width, height, subsampling, _ = turbo.decode_header(jpeg.encode(noise))
    assert (width, height, subsampling) == (64, 48, 2)  # TJSAMP_420
    assert len(jpeg.encode(noise, 30)) < len(jpeg.encode(noise)) < len(jpeg.encode(noise, 98))


def test_memory_order_does_not_matter() -> None:
    assert jpeg.encode(np.asfortranarray(corners())) == jpeg.encode(corners())
    assert jpeg.encode(np.flipud(np.flipud(corners()).copy())) == jpeg.encode(corners())


def test_a_view_is_decoded_and_checked_like_bytes() -> None:
    data = jpeg.encode(FLAT)
    jpeg.check(memoryview(data), CAMERA)
    assert np.array_equal(jpeg.decode(memoryview(data)), jpeg.decode(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_frame_without_rgb_inside_becomes_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (64, 48)).save(buffer, "jpeg")
    jpeg.check(buffer.getvalue(), CAMERA)
    assert jpeg.decode(buffer.getvalue()).shape == (48, 64, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no picture" * 9, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(EpisodeError, match=f"camera 'front': expected a JPEG, found {len(data)} bytes that are none"):
        jpeg.check(data, CAMERA)
    with pytest.raises(EpisodeError, match=f"expected a JPEG, found {len(data)} bytes that libjpeg-turbo refuses"):
        jpeg.decode(data)


def test_another_size_is_refused() -> None:
    with pytest.raises(EpisodeError, match="camera 'front': expected 48×64 pixels, found 64×48"):
        jpeg.check(jpeg.encode(np.zeros((64, 48, 3), np.uint8)), CAMERA)


@pytest.mark.parametrize("missing", [1, 2, 100])
def test_a_cut_off_frame_is_refused(missing: int) -> None:
    data = jpeg.encode(corners())[:-missing]
    with pytest.raises(EpisodeError, match="is cut off"):
        jpeg.check(data, CAMERA)


def test_a_damaged_frame_is_not_decoded() -> None:
    data = jpeg.encode(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    with pytest.raises(EpisodeError, match="libjpeg-turbo refuses"):
        jpeg.decode(data[:700] + b"\xff\xd9")
