"""JPEG frames of a wanted size for measurements: coloured gradients that move, under camera noise.

Robot scenes of 480×640 pixels at quality 90 have 30 to 100 kB. A gradient alone has far less and noise alone far more,
so the noise is what brings a frame to its size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from protocol.jpeg import encode

# Standard deviation of the noise, in levels of 255.
_MOST_NOISE = 64.0
_ROUNDS = 12
# One number a camera pixel is slow to draw; a field twice as high, cut at another line for each frame, is as random.
_FIELD_FACTOR = 2


def jpeg_frames(
    count: int, target_bytes: int = 75_000, height: int = 480, width: int = 640, seed: int = 0
) -> list[bytes]:
    """`count` different JPEG frames of `target_bytes` each, within 3 %; a function of the arguments.

    Quality 90 and 4:2:0 chroma, as `protocol.jpeg.encode` does it. Raises ConfigurationError if no frame of this many
    pixels has this many bytes.
    """
    rng = np.random.default_rng(seed)
    field = rng.standard_normal((_FIELD_FACTOR * height, width, 3), dtype=np.float32)
    level = _noise_level(field, target_bytes, height, width)
    return [encode(_image(field, number, level, height)) for number in range(count)]


def _image(field: NDArray[np.float32], number: int, level: float, height: int) -> NDArray[np.uint8]:
    """uint8[height, width, 3]: frame `number` of the film, with noise of standard deviation `level`."""
    width = field.shape[1]
    rows = np.linspace(0, np.pi, height, dtype=np.float32)[:, None, None]
    columns = np.linspace(0, 2 * np.pi, width, dtype=np.float32)[None, :, None]
    colours = np.array([0.0, 2.1, 4.2], np.float32)
    scene = 128 + 70 * np.sin(columns + colours + 0.1 * number) * np.sin(rows)
    # A prime step, so that frames of a film do not meet the same rows of noise before the field has been gone through.
    first = (number * 101) % (field.shape[0] - height + 1)
    noise = np.roll(field[first : first + height], number * 37, axis=1)
    image: NDArray[np.uint8] = np.clip(scene + level * noise, 0, 255).astype(np.uint8)
    return image


def _noise_level(field: NDArray[np.float32], target_bytes: int, height: int, width: int) -> float:
    """The noise with which a frame has `target_bytes`, found by halving; size grows with noise."""
    sizes = [len(encode(_image(field, 0, level, height))) for level in (0.0, _MOST_NOISE)]
    if not sizes[0] <= target_bytes <= sizes[1]:
        raise ConfigurationError(
            f"frames of {height}×{width} pixels have {sizes[0]} to {sizes[1]} bytes, asked for {target_bytes}"
        )
    low, high = 0.0, _MOST_NOISE
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if len(encode(_image(field, 0, middle, height))) < target_bytes:
            low = middle
        else:
            high = middle
    return (low + high) / 2
