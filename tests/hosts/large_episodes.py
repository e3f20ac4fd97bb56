"""Episodes with frames of the size that cameras make, of which a link of 100 Mbit/s takes notice; cheap to make."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from protocol.jpeg import encode
from protocol.spec import Camera, Column, StreamSpec
from tests.fakes import SUCCESS, CountedEpisode

# What a JPEG of 480×640 pixels takes [bytes].
FRAME_BYTES = 60_000


def large_spec(steps: int) -> StreamSpec:
    """Two cameras; every episode has so many steps."""
    return StreamSpec(
        name=f"tests/hosts{steps}",
        rate_hz=50.0,
        max_steps=steps,
        columns=(Column("action", "float32", (7,)), Column("observations/count", "int64")),
        cameras=(Camera("left", 480, 640), Camera("right", 480, 640)),
    )


def episode_bytes(spec: StreamSpec) -> int:
    """JPEG bytes of one episode."""
    return spec.max_steps * len(spec.cameras) * FRAME_BYTES


def large_episode(spec: StreamSpec, index: int) -> CountedEpisode:
    """What this index must look like, to the byte. Every frame is a grey image with a comment of random bytes."""
    rng, steps = np.random.default_rng((zlib.crc32(spec.name.encode()), index)), spec.max_steps
    return CountedEpisode(
        spec=spec,
        index=index,
        outcome=SUCCESS,
        steps=steps,
        seed=index * 31 + 7,
        columns={
            "action": rng.normal(size=(steps, 7)).astype("<f4"),
            "observations/count": index * 1_000_000 + np.arange(steps, dtype="<i8"),
        },
        images={},
        frames={camera.name: [_frame(camera, rng) for _ in range(steps)] for camera in spec.cameras},
        documents={"model": b"<model>" + bytes([index % 3]) * 1000 + b"</model>"},
    )


def _frame(camera: Camera, rng: np.random.Generator) -> bytes:
    image = _grey(camera)
    # A JPEG comment: ff fe, its length with these two bytes, anything.
    size = FRAME_BYTES - len(image) - 4
    return image[:2] + b"\xff\xfe" + (size + 2).to_bytes(2, "big") + rng.bytes(size) + image[2:]


@lru_cache
def _grey(camera: Camera) -> bytes:
    return encode(np.full((camera.height, camera.width, 3), 128, np.uint8))
