"""The episodes that every peer is handed: the frames of the bench in turns, and columns of random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.bench.peers.plan import COLUMN_WIDTH
from protocol.jpeg import decode

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Episode:
    """images: by camera, one array a step; uint8[H, W, 3], or the bytes of a JPEG. qpos, action: float32[T, 14]."""

    number: int
    images: Mapping[str, Sequence[Image]]
    qpos: NDArray[np.float32]
    action: NDArray[np.float32]


@dataclass(frozen=True)
class EpisodeSource:
    """Makes the episodes of a plan; a function of the frames and the number."""

    frames: Sequence[bytes]
    steps: int
    cameras: Sequence[str]

    def jpeg(self, number: int, step: int, camera: int) -> bytes:
        """The frame of one camera at one step."""
        place = (number * self.steps + step) * len(self.cameras) + camera
        return self.frames[place % len(self.frames)]

    def payload_bytes(self, number: int) -> int:
        """JPEG bytes of an episode."""
        return sum(len(self.jpeg(number, s, c)) for s in range(self.steps) for c in range(len(self.cameras)))

    def episode(self, number: int, decoded: bool) -> Episode:
        """Episode `number`, with pixels if `decoded`."""
        images = {
            name: [self._image(self.jpeg(number, step, camera), decoded) for step in range(self.steps)]
            for camera, name in enumerate(self.cameras)
        }
        columns = np.random.default_rng(number).standard_normal((2, self.steps, COLUMN_WIDTH), np.float32)
        return Episode(number, images, columns[0], columns[1])

    @staticmethod
    def _image(jpeg: bytes, decoded: bool) -> Image:
        return decode(jpeg) if decoded else np.frombuffer(jpeg, np.uint8)


def save_frames(path: Path, frames: Sequence[bytes]) -> None:
    """Write frames where the processes of the peers find them: an .npz of `sizes` and `blob`."""
    sizes = np.array([len(frame) for frame in frames], np.int64)
    np.savez(path, sizes=sizes, blob=np.frombuffer(b"".join(frames), np.uint8))


def load_frames(path: Path) -> list[bytes]:
    """Read them again."""
    with np.load(path, allow_pickle=False) as stored:
        blob, ends = stored["blob"].tobytes(), np.cumsum(stored["sizes"]).tolist()
    return [blob[first:end] for first, end in zip([0, *ends], ends, strict=False)]
