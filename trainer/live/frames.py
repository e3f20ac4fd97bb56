"""Frames into the buffer of a batch: JPEG straight, others by a copy."""

from __future__ import annotations

from functools import cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from protocol.checksum import frame_checksum
from protocol.errors import CorruptionError
from protocol.spec import Camera

# What libjpeg-turbo can scale by while decoding, in eighths of the size: the smallest that is large enough is taken.
_EIGHTHS = (1, 2, 3, 4, 5, 6, 7, 8)


@cache
def scaled_size(stored: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in which an image of size `stored` is decoded if `wanted` is to be made of it."""
    for eighths in _EIGHTHS:
        height, width = (-(-side * eighths // 8) for side in stored)
        if height >= wanted[0] and width >= wanted[1]:
            return height, width
    return stored


def decode_into(data: bytes, checksum: int, camera: Camera, out: NDArray[np.uint8]) -> None:
    """Check and decode a frame into `out`, uint8[H, W, 3] of any size. Raises CorruptionError without a place."""
    if frame_checksum(data) != checksum:
        raise CorruptionError("the frame differs from its checksum")
    wanted = (out.shape[0], out.shape[1])
    size = scaled_size((camera.height, camera.width), wanted)
    direct = size == wanted
    try:
        image = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=size[0], min_width=size[1], buffer=out if direct else None
        )
    except ValueError as error:
        raise CorruptionError(f"libjpeg-turbo refuses the frame: {error}") from error
    if image.shape[:2] != size:
        expected = f"{camera.height}×{camera.width}"
        raise CorruptionError(f"the frame is not {expected} pixels; decoded it is {image.shape[0]}×{image.shape[1]}")
    if not direct:
        fit_into(image, out)


def fit_into(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Copy a decoded frame into `out`, uint8[H, W, 3] of any size; the aspect is not kept."""
    if image.shape == out.shape:
        out[:] = image
    else:
        height, width = out.shape[:2]
        out[:] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
