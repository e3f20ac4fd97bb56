"""What the disk can do: `python -m deploy.bench.sink.plain_write`, `write` of the frames and `fdatasync` an episode.

The floor of any storage with the same promise: the same bytes, durable after each episode, and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class WriteFlags:
    """Write frames to one growing file."""

    out: Path
    """File to write; removed afterwards."""
    frames: Path
    """Directory of JPEG files; written in turn."""
    episodes: int
    """How many."""
    steps: int
    """Frames of an episode."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write, and print {"seconds", "bytes"}."""
    flags = tyro.cli(WriteFlags, prog="deploy.bench.sink.plain_write", args=argv)
    frames = [path.read_bytes() for path in sorted(flags.frames.glob("*.jpg"))]
    written = 0
    fd = os.open(flags.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    began = time.perf_counter()
    for episode in range(flags.episodes):
        for step in range(flags.steps):
            written += os.write(fd, frames[(episode * flags.steps + step) % len(frames)])
        os.fdatasync(fd)
    seconds = time.perf_counter() - began
    os.close(fd)
    flags.out.unlink()
    json.dump({"seconds": seconds, "bytes": written}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
