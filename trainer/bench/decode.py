"""`python -m trainer.bench.decode SETTINGS`: the frames of random samples, decoded from memory, and nothing else.

Settings: data, samples, core. What reading can be at best: no disk, no checksum, no order, one buffer again and again.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import simplejpeg

from protocol.dataset_view import DatasetView
from trainer.bench.turns import Clock, serve, settings_of


def load(data: str, samples: int) -> list[tuple[list[bytes], list[tuple[int, int]]]]:
    """The JPEGs of `samples` random steps, with their sizes in pixels."""
    rng = np.random.default_rng(0)
    with DatasetView(data) as view:
        episodes = [episode for episode in view.new_episodes() if episode.steps]
        ends = np.cumsum([episode.steps for episode in episodes])
        found = []
        for place in rng.integers(0, ends[-1], samples).tolist():
            number = int(np.searchsorted(ends, place, side="right"))
            step = place - int(ends[number] - episodes[number].steps)
            cameras = episodes[number].shard.spec.cameras
            frames = [episodes[number].frame(camera.name, step) for camera in cameras]
            found.append((frames, [(camera.height, camera.width) for camera in cameras]))
    return found


def measure(samples: list[tuple[list[bytes], list[tuple[int, int]]]]) -> dict[str, float]:
    """Samples and times of one turn."""
    buffers = {size: np.empty((*size, 3), np.uint8) for _, sizes in samples for size in sizes}
    began = Clock()
    for frames, sizes in samples:
        for frame, size in zip(frames, sizes, strict=True):
            simplejpeg.decode_jpeg(frame, colorspace="RGB", buffer=buffers[size])
    return {"samples": len(samples), **began.passed()}


if __name__ == "__main__":
    settings = settings_of(sys.argv)
    serve(settings, partial(measure, load(settings["data"], settings["samples"])))
