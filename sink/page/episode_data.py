"""One episode for the browser: what it is made of, the numbers of a column, a frame."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from protocol.checksum import frame_checksum
from protocol.errors import CorruptionError, DatasetError
from protocol.jpeg import encode
from protocol.namo.episodes import CAMERA as NAMO_CAMERA
from protocol.namo.episodes import MAX_PLAN_STEPS
from protocol.shard_view import EpisodeView
from sink.page.catalogue import UnknownEpisodeError, model_of

# Of a plot: lines, and steps along each.
_MOST_LINES = 16
_MOST_POINTS = 2000
# Longer parts of the attributes are left out, and said to be.
_MOST_ATTRIBUTE = 20_000
_MOST_ATTRIBUTES = 200


def described(episode: EpisodeView) -> dict[str, Any]:
    """What the page shows of an episode before anything of it is plotted."""
    spec, row = episode.shard.spec, episode.row
    return {
        "uuid": episode.shard.layout.dataset_uuid,
        "stream": spec.name,
        "index": episode.index,
        "outcome": episode.outcome.name.lower(),
        "steps": episode.steps,
        "rate_hz": spec.rate_hz,
        "seed": int(row["seed"]),
        "producer": episode.producer,
        "model": model_of(episode),
        "took_s": (int(row["ended_ns"]) - int(row["began_ns"])) / 1e9,
        "committed_ns": int(row["committed_ns"]),
        "frames_bytes": int(row["frames_bytes"]),
        "shard": episode.shard.layout.path.name,
        "row": episode.number,
        "cameras": [msgspec.to_builtins(camera) for camera in spec.cameras],
        "columns": [msgspec.to_builtins(column) for column in spec.columns],
        "plan": is_search(episode),
        "attributes": _attributes(episode),
    }


def is_search(episode: EpisodeView) -> bool:
    """A NAMO search, whose plan can be drawn."""
    names = {column.name for column in episode.shard.spec.columns}
    cameras = {camera.name for camera in episode.shard.spec.cameras}
    short = episode.shard.spec.max_steps <= MAX_PLAN_STEPS
    return short and NAMO_CAMERA in cameras and {"object", "target", "observations/movables"} <= names


def _attributes(episode: EpisodeView) -> dict[str, Any]:
    try:
        found = episode.attributes()
        return {name: _shortened(value) for name, value in list(found.items())[:_MOST_ATTRIBUTES]}
    except (DatasetError, ValueError, RecursionError) as error:
        return {"unreadable": str(error)}


def _shortened(value: Any) -> Any:
    size = len(msgspec.json.encode(value))
    return value if size <= _MOST_ATTRIBUTE else f"… {size} bytes, left out here"


def column(episode: EpisodeView, name: str) -> dict[str, Any]:
    """The numbers of a column: {steps: [...], lines: [[...], ...], labels: [...], left_out}; NaN is null.

    Raises UnknownEpisodeError.
    """
    known = [each.name for each in episode.shard.spec.columns]
    if name not in known:
        raise UnknownEpisodeError(f"there is no column {name!r}; there is: {', '.join(known)}")
    rows = episode.column(name).reshape(episode.steps, -1) if episode.steps else np.empty((0, 1))
    every = math.ceil(len(rows) / _MOST_POINTS) or 1
    lines = rows[::every, :_MOST_LINES].astype(np.float64).T
    shape = next(each.shape for each in episode.shard.spec.columns if each.name == name)
    return {
        "name": name,
        "steps": list(range(0, len(rows), every)),
        "lines": [[value if math.isfinite(value) else None for value in line] for line in lines.tolist()],
        "labels": [_label(shape, place) for place in range(len(lines))],
        "left_out": max(rows.shape[1] - _MOST_LINES, 0),
    }


def _label(shape: tuple[int, ...], place: int) -> str:
    return ",".join(str(int(each)) for each in np.unravel_index(place, shape)) if shape else ""


def frame(episode: EpisodeView, camera: str, step: int) -> bytes:
    """The stored JPEG; of a packed shard one made of its video. Raises UnknownEpisodeError, CorruptionError."""
    if camera not in episode.shard.cameras:
        known = ", ".join(episode.shard.cameras) or "none"
        raise UnknownEpisodeError(f"there is no camera {camera!r}; there is: {known}")
    if step >= episode.steps:
        raise UnknownEpisodeError(f"step {step}: the episode has {episode.steps}")
    if episode.shard.packing is not None:
        return encode(episode.image(camera, step))
    first = int(episode.row["first_step"])
    place = episode.shard.steps(f"steps/images/{camera}", first + step, 1)[0]
    data = episode.shard.blob(int(place["offset"]), int(place["size"]))
    if frame_checksum(data) != int(place["checksum"]):
        where = f"{episode.shard.layout.path}: index {episode.index}, camera {camera!r}, step {step}"
        raise CorruptionError(f"{where}: the frame differs from its checksum")
    return data
