"""`python -m producers.bench.load`: publish ready-made JPEG frames as fast as the sink takes them, or at a given rate.

Everything is as in a real producer (publishing API, checks, checksums, acknowledgements) but the simulator.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ConfigurationError
from protocol.producer_delivery import Event
from protocol.spec import Camera, Column, StreamSpec

STREAM = "bench/load"
CAMERA = "front"
_QPOS, _ACTION = 14, 14  # ACT's two arms


@dataclass(frozen=True)
class LoadFlags:
    """Publish ready-made frames."""

    sink: str
    """Endpoint of the sink."""
    frames: Path
    """Directory of JPEG files, all of one size; they are published in turn."""
    episodes: int
    """Publish this many."""
    height: int = 480
    """Of the frames [pixels]."""
    width: int = 640
    """Of the frames [pixels]."""
    steps: int = 100
    """Steps of an episode, one frame each."""
    rate: float = 0.0
    """Episodes a second; 0: as fast as they are taken [1/s]."""
    ahead_mib: int = 128
    """A new episode waits while more than this is not acknowledged [MiB]."""
    wait: Path | None = None
    """Begin when this file exists."""
    key: Path | None = None
    """Key file, for a sink with keys."""


@dataclass
class Times:
    """When each episode of a producer ended and when it was acknowledged, time.time() [s]."""

    ended: dict[int, float]
    acked: dict[int, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Publish, and write {"ended": {index: s}, "acked": {index: s}, "cpu_s", "waited_s"} to stdout."""
    flags = tyro.cli(LoadFlags, prog="producers.bench.load", args=argv)
    frames = [path.read_bytes() for path in sorted(flags.frames.glob("*.jpg"))]
    if not frames:
        raise ConfigurationError(f"{flags.frames}: expected JPEG files *.jpg, found none")
    times = Times({}, {})

    def note(event: Event) -> None:
        if event.kind == "committed" and event.index is not None:
            times.acked[event.index] = time.time()

    config = PublisherConfig(max_ahead_bytes=flags.ahead_mib << 20, max_ahead_episodes=64, key=flags.key)
    with Publisher(flags.sink, load_spec(flags), Goal(), config, on_event=note) as publisher:
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        while flags.wait is not None and not flags.wait.exists():
            time.sleep(0.001)
        cpu = time.process_time()
        for number, index in zip(_paced(flags), publisher.leases(), strict=False):
            _publish(publisher, index, frames, flags.steps, number)
            times.ended[index] = time.time()
        publisher.flush()
        cpu = time.process_time() - cpu
        waited = publisher.waited_s
    json.dump({"ended": times.ended, "acked": times.acked, "cpu_s": cpu, "waited_s": waited}, sys.stdout)
    return 0


def load_spec(flags: LoadFlags) -> StreamSpec:
    """One camera, and the columns of ACT."""
    columns = (Column("action", "float32", (_ACTION,)), Column("observations/qpos", "float32", (_QPOS,)))
    return StreamSpec(STREAM, 50.0, max(flags.steps, 1), columns, (Camera(CAMERA, flags.height, flags.width),))


def _paced(flags: LoadFlags) -> Iterator[int]:
    """0 … episodes − 1, each not before its time."""
    began = time.monotonic()
    for number in range(flags.episodes):
        if flags.rate:
            time.sleep(max(0.0, began + number / flags.rate - time.monotonic()))
        yield number


def _publish(publisher: Publisher, index: int, frames: Sequence[bytes], steps: int, number: int) -> None:
    action, qpos = np.zeros(_ACTION, np.float32), np.zeros(_QPOS, np.float32)
    with publisher.episode(index) as episode:
        for step in range(steps):
            frame = frames[(number * steps + step) % len(frames)]
            episode.step({"action": action, "observations/qpos": qpos}, {CAMERA: frame})
        episode.finish(success=True)


if __name__ == "__main__":
    sys.exit(main())
