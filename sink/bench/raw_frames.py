"""`python -m sink.bench.raw_frames`: decode all frames of a dataset and write them, one plain file an episode, synced.

What an export of decoded frames cannot be faster than, with the same decoder on the same disk: no HDF5, no columns, no
checksums, no manifest. It prints {"seconds", "bytes"}; opening the dataset is not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tyro

from protocol.dataset_view import DatasetView
from protocol.shard_view import EpisodeView


@dataclass(frozen=True)
class RawFlags:
    """Decode and write."""

    data: Path
    """Dataset directory."""
    out: Path
    """Folder for the files; it must not exist."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write them all."""
    flags = tyro.cli(RawFlags, prog="sink.bench.raw_frames", args=argv)
    flags.out.mkdir()
    with DatasetView(flags.data) as view:
        episodes = sorted(view.new_episodes(), key=lambda episode: episode.index)
        began = time.perf_counter()
        written = sum(_write(episode, flags.out / f"{episode.index}.raw") for episode in episodes)
        seconds = time.perf_counter() - began
    json.dump({"seconds": seconds, "bytes": written}, sys.stdout)
    return 0


def _write(episode: EpisodeView, path: Path) -> int:
    cameras = episode.shard.spec.cameras
    buffers = {camera.name: np.empty((camera.height, camera.width, 3), np.uint8) for camera in cameras}
    written = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    try:
        for step in range(episode.steps):
            for name, buffer in buffers.items():
                simplejpeg.decode_jpeg(episode.frame(name, step), colorspace="RGB", buffer=buffer)
                written += os.write(fd, buffer.data)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return written


if __name__ == "__main__":
    sys.exit(main())
