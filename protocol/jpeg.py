"""JPEG frames: upright RGB in, libjpeg-turbo bytes out."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from protocol.errors import EpisodeError
from protocol.spec import Camera

DEFAULT_QUALITY = 90
_END_OF_IMAGE = b"\xff\xd9"


def encode(image: NDArray[np.uint8], quality: int = DEFAULT_QUALITY) -> bytes:
    """uint8[H, W, 3] upright RGB → JPEG with 4:2:0 chroma; quality 1 to 100."""
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=True
    )
    return data


def decode(data: bytes | memoryview) -> NDArray[np.uint8]:
    """JPEG → uint8[H, W, 3] upright RGB. Raises EpisodeError if it cannot be decoded."""
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise EpisodeError(f"expected a JPEG, found {len(data)} bytes that libjpeg-turbo refuses: {error}") from error
    return image


def check(data: bytes | memoryview, camera: Camera) -> None:
    """Raise EpisodeError unless `data` is a JPEG of the camera's size. Reads the header and the end mark only."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        found = f"{len(data)} bytes that are none ({error})"
        raise EpisodeError(f"camera {camera.name!r}: expected a JPEG, found {found}") from error
    if (height, width) != (camera.height, camera.width):
        raise EpisodeError(
            f"camera {camera.name!r}: expected {camera.height}×{camera.width} pixels, found {height}×{width}"
        )
    if bytes(data[-2:]) != _END_OF_IMAGE:
        raise EpisodeError(f"camera {camera.name!r}: the JPEG of {len(data)} bytes is cut off (no end mark)")
