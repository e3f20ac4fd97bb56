"""`python -m sink.bench.episodes`: a dataset of episodes with frames, or more of them, written by the sink's own store.

Frames are taken in turns from a folder of JPEGs; without one the stream has no cameras. Columns are random numbers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from protocol.checksum import episode_checksum, frame_checksum
from protocol.errors import ConfigurationError
from protocol.messages import End, Outcome
from protocol.orders import Attempt
from protocol.spec import Camera, Column, StreamSpec
from sink.content_audit import jpeg_size
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.stream_store import NotReadyError, StreamStore

STREAM = "bench/episodes"
CAMERAS = ("front", "wrist")
# Two arms, as in ACT.
WIDTH = 14
_ATTRIBUTES = b'{"success":true}'


@dataclass(frozen=True)
class EpisodesFlags:
    """Write episodes behind those that are there."""

    data: Path
    """Dataset directory."""
    frames: Path | None = None
    """Folder of JPEGs of one size, for two cameras; None for no cameras."""
    episodes: int = 8
    """How many more."""
    steps: int = 100
    """Steps of each."""
    group: int = 1
    """Episodes of one commit."""
    rate: float = 0.0
    """Episodes a second [Hz]; 0 for as many as can be."""
    shard_mib: int = 64
    """Size of a shard's blob [MiB]."""


@dataclass(frozen=True)
class Made:
    """What every episode is made of. frames: of one step, camera by camera, again and again."""

    spec: StreamSpec
    frames: Sequence[bytes]

    def write(self, store: StreamStore, index: int, steps: int) -> None:
        """One episode, not committed."""
        count = len(self.spec.cameras)
        first = index * steps * count
        frames = [self.frames[(first + place) % len(self.frames)] for place in range(steps * count)]
        rng = np.random.default_rng(index)
        columns = [rng.standard_normal((steps, WIDTH), np.float32) for _ in self.spec.columns]
        checksums = [np.array([frame_checksum(f) for f in frames[c::count]], "<u4") for c in range(count)]
        now = time.time_ns()
        end = End(
            session=1,
            index=index,
            outcome=Outcome.SUCCESS,
            steps=steps,
            seed=index,
            began_ns=now,
            ended_ns=now,
            checksum=episode_checksum(checksums, columns, _ATTRIBUTES),
        )
        attempt = Attempt(index, self.spec.name, index, 1, "bench")
        if frames:
            _when_ready(store, lambda: store.append(attempt, frames))
        payload = [_ATTRIBUTES, *(column.tobytes() for column in columns)]
        _when_ready(store, lambda: store.finish(attempt, end, payload))


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; says `ready` on stderr before the first. Raises HeadraceError."""
    flags = tyro.cli(EpisodesFlags, prog="sink.bench.episodes", args=argv)
    made = _plan(flags)
    flags.data.mkdir(parents=True, exist_ok=True)
    with _store(flags, made.spec) as store:
        first = store.committed.first_gap(0)
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        began = time.monotonic()
        for number in range(flags.episodes):
            made.write(store, first + number, flags.steps)
            if number % flags.group == flags.group - 1:
                store.commit()
            if flags.rate:
                time.sleep(max(began + (number + 1) / flags.rate - time.monotonic(), 0.0))
    return 0


def _plan(flags: EpisodesFlags) -> Made:
    frames = [path.read_bytes() for path in sorted(flags.frames.glob("*.jpg"))] if flags.frames else []
    sizes = {jpeg_size(memoryview(frame)) for frame in frames}
    size = next(iter(sizes), None)
    if flags.frames and (len(sizes) != 1 or size is None):
        raise ConfigurationError(f"{flags.frames}: expected JPEGs *.jpg of one size, found sizes {sizes or 'none'}")
    cameras = tuple(Camera(name, *size) for name in CAMERAS) if size else ()
    names = ("action", "observations/qpos", "observations/qvel")
    columns = tuple(Column(name, "float32", (WIDTH,)) for name in names)
    return Made(StreamSpec(STREAM, 50.0, flags.steps, columns, cameras), frames or [b""])


@contextmanager
def _store(flags: EpisodesFlags, spec: StreamSpec) -> Iterator[StreamStore]:
    disk = Disk()
    with ThreadPoolExecutor(1) as pool:
        folder, uuid = flags.data / spec.name, dataset_uuid(flags.data)
        store = StreamStore(folder, spec, flags.shard_mib << 20, uuid, disk, pool)
        yield store
        store.close()
    disk.stop()


def _when_ready(store: StreamStore, action: Callable[[], None]) -> None:
    """Do it; when the next shard is still being made, wait for that and do it again."""
    try:
        action()
    except NotReadyError:
        store.commit()
        assert store.preparing is not None
        store.preparing.result()
        action()


if __name__ == "__main__":
    sys.exit(main())
