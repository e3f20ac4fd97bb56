"""`headrace export rerun`: one Rerun recording for each episode; open it with `rerun OUT/episode_000000.rrd`.

    cameras/CAMERA     EncodedImage: the JPEG as it was recorded
    COLUMN             Scalars: one row, flat, as 64-bit floats, e.g. action, observations/qpos
    attributes         TextDocument (static): what the producer says about the episode

Timelines: `step`, and `time`, which is step / rate_hz. Rerun numbers its chunks by time and chance, so that two exports
of one episode hold the same and are not the same bytes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sink.export.act import chosen_cameras
from sink.export.columns import chosen_columns
from sink.export.episode import Episode
from sink.export.plan import Done, Plan, Written
from sink.export.whole_file import whole_file

_JPEG = "image/jpeg"
_STEPS_A_CHUNK = 64


@dataclass(frozen=True)
class Rerun:
    """One Rerun recording for each episode: JPEGs as they were recorded, and all columns as scalars."""

    follows: ClassVar[bool] = True

    cameras: tuple[str, ...] = ()
    """Which cameras; all if not given."""
    columns: tuple[str, ...] = ()
    """Which columns; all if not given."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream has no such camera or column, ModuleNotFoundError without Rerun."""
        self.begin(plan, Path())
        _library()

    def begin(self, plan: Plan, folder: Path) -> RerunWriter:
        """Nothing is shared by the episodes."""
        return RerunWriter(folder, chosen_cameras(plan, self.cameras), chosen_columns(plan.spec, self.columns))


@dataclass(frozen=True)
class RerunWriter:
    """Writes `episode_POSITION.rrd`."""

    folder: Path
    cameras: tuple[str, ...]
    columns: tuple[str, ...]

    def write(self, episode: Episode) -> Written:
        """One recording."""
        name = f"episode_{episode.position:06d}"
        spec = episode.spec
        with whole_file(self.folder / f"{name}.rrd") as path:
            # Position and index say which one it is in a viewer that has several open.
            recording = _library().RecordingStream(
                _application(spec.name), recording_id=f"{name}-index-{episode.index}"
            )
            recording.save(path)
            _describe(recording, episode)
            for camera in self.cameras:
                _send_images(recording, episode, camera)
            for column in self.columns:
                values = episode.column(column).reshape(episode.steps, -1).astype(np.float64)
                times = _times(range(episode.steps), spec.rate_hz)
                recording.send_columns(column, times, _library().Scalars.columns(scalars=values))
            recording.flush()
            recording.disconnect()
        return Written((f"{name}.rrd",), episode.steps * len(self.cameras))

    def finish(self, done: Sequence[Done]) -> None:
        """Nothing is shared."""


def _application(stream: str) -> str:
    # A name of several parts would be changed by Rerun, with a warning.
    return "headrace-" + stream.replace("/", "-")


def _describe(recording: Any, episode: Episode) -> None:
    about = {
        "stream": episode.spec.name,
        "index": episode.index,
        "outcome": episode.entry.outcome,
        "seed": episode.seed,
        "rate_hz": episode.spec.rate_hz,
        "attributes": episode.attributes,
    }
    text = json.dumps(about, indent=2)
    recording.log("attributes", _library().TextDocument(text, media_type="text/plain"), static=True)
    recording.send_recording_name(f"{episode.spec.name} {episode.index}, {episode.entry.outcome}")


def _send_images(recording: Any, episode: Episode, camera: str) -> None:
    for first in range(0, episode.steps, _STEPS_A_CHUNK):
        steps = range(first, min(first + _STEPS_A_CHUNK, episode.steps))
        frames = [episode.jpeg(camera, step) for step in steps]
        columns = _library().EncodedImage.columns(blob=frames, media_type=[_JPEG] * len(frames))
        recording.send_columns(f"cameras/{camera}", _times(steps, episode.spec.rate_hz), columns)


def _times(steps: Sequence[int], rate_hz: float) -> list[Any]:
    return [
        _library().TimeColumn("step", sequence=steps),
        _library().TimeColumn("time", duration=[step / rate_hz for step in steps]),
    ]


def _library() -> Any:
    """Imported when it is used: flags and help need no Rerun, which has an environment of its own."""
    return importlib.import_module("rerun")
