"""Small real datasets for tests, written by the sink's own store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol import jpeg
from protocol.checksum import episode_checksum, frame_checksum
from protocol.messages import End, Outcome
from protocol.orders import Attempt
from protocol.spec import Camera, Column, StreamSpec
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.stream_store import NotReadyError, StreamStore

SPEC = StreamSpec(
    "test/count",
    rate_hz=50,
    max_steps=200,
    columns=(Column("action", "float32", (2,)), Column("observations/qpos", "float64", (3,))),
    cameras=(Camera("front", 48, 64), Camera("wrist", 32, 32)),
)
MODEL = b"<mujoco/>" * 20


@dataclass(frozen=True)
class Recorded:
    """What one episode is made of. A VOID one has no steps, whatever `steps` says."""

    index: int
    steps: int = 6
    outcome: Outcome = Outcome.SUCCESS
    attributes: Mapping[str, object] = field(default_factory=dict)
    document: bytes = MODEL


def picture(camera: Camera, index: int, step: int) -> NDArray[np.uint8]:
    """A picture that tells index and step: the hue is the index, a bar grows with the step."""
    image = np.full((camera.height, camera.width, 3), 40, np.uint8)
    image[..., index % 3] = 60 + index * 37 % 196
    image[-camera.height // 8 :, : 1 + step * camera.width // 20] = 255
    return image


Draw = Callable[[Camera, int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class _Look:
    draw: Draw
    scale: float


def write_dataset(
    root: Path,
    episodes: Iterable[Recorded],
    spec: StreamSpec = SPEC,
    shard_bytes: int = 1 << 20,
    group: int = 1,
    draw: Draw = picture,
    scale: float = 1.0,
) -> None:
    """Write a stream of a dataset, `group` episodes a commit; full shards are sealed.

    draw: its frames. scale: of the column `action`, which counts.
    """
    root.mkdir(parents=True, exist_ok=True)
    look = _Look(draw, scale)
    with ThreadPoolExecutor(1) as pool:
        store = StreamStore(root / spec.name, spec, shard_bytes, dataset_uuid(root), Disk(), pool)
        for number, episode in enumerate(episodes, 1):
            _write(store, Attempt(number, spec.name, episode.index, 1, "tester"), episode, look)
            if number % group == 0:
                store.commit()
        store.close()


def _write(store: StreamStore, attempt: Attempt, episode: Recorded, look: _Look) -> None:
    spec = store.spec
    steps = 0 if episode.outcome is Outcome.VOID else episode.steps
    frames = [jpeg.encode(look.draw(c, episode.index, t)) for t in range(steps) for c in spec.cameras]
    columns = [_column(column, episode.index, steps, look.scale) for column in spec.columns] if steps else []
    named = {"model": hashlib.sha256(episode.document).hexdigest()}
    attributes = msgspec.json.encode({**episode.attributes, "documents": named})
    each = max(len(spec.cameras), 1)
    checksums = [np.array([frame_checksum(f) for f in frames[c::each]], "<u4") for c in range(len(spec.cameras))]
    now = time.time_ns()
    end = End(
        session=1,
        index=episode.index,
        outcome=episode.outcome,
        steps=steps,
        seed=1000 + episode.index,
        began_ns=now,
        ended_ns=now,
        checksum=episode_checksum(checksums, columns, attributes),
        documents=tuple(named.values()),
    )
    for name in named.values():
        store.keep_document(name, episode.document)
    if frames:
        _when_ready(store, lambda: store.append(attempt, frames))
    _when_ready(store, lambda: store.finish(attempt, end, [attributes, *(column.tobytes() for column in columns)]))


def _column(column: Column, index: int, steps: int, scale: float) -> NDArray[np.generic]:
    values = np.arange(steps * int(np.prod(column.shape, dtype=np.int64))).reshape(steps, *column.shape) + index
    return (values * scale if column.name == "action" else values).astype(column.numpy_dtype)


def _when_ready(store: StreamStore, action: object) -> None:
    """Do it; when the next shard is still being made, wait for that and do it again."""
    assert callable(action)
    try:
        action()
    except NotReadyError:
        store.commit()
        assert store.preparing is not None
        store.preparing.result()
        action()


__all__: Sequence[str] = ("MODEL", "SPEC", "Recorded", "picture", "write_dataset")
