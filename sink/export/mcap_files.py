"""`headrace export mcap`: one MCAP file for each episode, for Foxglove and everything else that reads it.

    /images/CAMERA     foxglove.CompressedImage: the JPEG as it was recorded
    /COLUMN            headrace.Floats, .Doubles, .Integers, .Naturals or .Booleans: one row, flat, e.g. /action
    attachment         attributes.json: what the producer says about the episode
    metadata           episode: stream, index, outcome, seed, steps, rate_hz; shapes: COLUMN → dtype and shape

Messages are Protobuf, and the file holds their schemas. Step t is at the begin of the episode on the producer's clock
plus t / rate_hz: simulated time, whatever the simulation took.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from mcap.writer import Writer
from numpy.typing import NDArray

from sink.export import mcap_schemas as schemas
from sink.export.act import chosen_cameras
from sink.export.columns import chosen_columns
from sink.export.episode import Episode
from sink.export.plan import Done, Plan, Written
from sink.export.whole_file import whole_file

_IMAGES = "/images/"
_SECOND = 1_000_000_000
_LIBRARY = "headrace"

# The number of a channel, and what makes its message of a step at a time [ns].
_Topic = tuple[int, Callable[[int, int], bytes]]


@dataclass(frozen=True)
class Mcap:
    """One MCAP file for each episode, with Foxglove's schema of images and typed topics of all columns."""

    follows: ClassVar[bool] = True

    cameras: tuple[str, ...] = ()
    """Which cameras; all if not given."""
    columns: tuple[str, ...] = ()
    """Which columns; all if not given."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream has no such camera or column."""
        self.begin(plan, Path())

    def begin(self, plan: Plan, folder: Path) -> McapWriter:
        """Nothing is shared by the episodes."""
        return McapWriter(folder, chosen_cameras(plan, self.cameras), chosen_columns(plan.spec, self.columns))


@dataclass(frozen=True)
class McapWriter:
    """Writes `episode_POSITION.mcap`."""

    folder: Path
    cameras: tuple[str, ...]
    columns: tuple[str, ...]

    def write(self, episode: Episode) -> Written:
        """One file; its messages are in the order of time."""
        name = f"episode_{episode.position:06d}.mcap"
        with whole_file(self.folder / name) as path, path.open("wb") as file:
            writer = Writer(file)
            writer.start(profile="", library=_LIBRARY)
            self._describe(writer, episode)
            topics = [*self._images(writer, episode), *self._rows(writer, episode)]
            for step in range(episode.steps):
                time = episode.began_ns + round(step * _SECOND / episode.spec.rate_hz)
                for channel, message in topics:
                    writer.add_message(channel, time, message(step, time), publish_time=time, sequence=step)
            writer.finish()  # type: ignore[no-untyped-call]
        return Written((name,), episode.steps * len(self.cameras))

    def finish(self, done: Sequence[Done]) -> None:
        """Nothing is shared."""

    def _describe(self, writer: Writer, episode: Episode) -> None:
        spec = episode.spec
        about = {
            "stream": spec.name,
            "index": episode.index,
            "outcome": episode.entry.outcome,
            "seed": episode.seed,
            "steps": episode.steps,
            "rate_hz": spec.rate_hz,
        }
        writer.add_metadata("episode", {name: str(value) for name, value in about.items()})
        shapes = {each.name: f"{each.dtype}{list(each.shape)}" for each in spec.columns if each.name in self.columns}
        writer.add_metadata("shapes", shapes)
        attributes = json.dumps(episode.attributes, sort_keys=True).encode()
        began = episode.began_ns
        writer.add_attachment(began, began, "attributes.json", "application/json", attributes)

    def _images(self, writer: Writer, episode: Episode) -> Iterator[_Topic]:
        for camera in self.cameras:
            channel = _channel(writer, _IMAGES + camera, schemas.COMPRESSED_IMAGE)
            yield channel, partial(_image, episode, camera)

    def _rows(self, writer: Writer, episode: Episode) -> Iterator[_Topic]:
        for name in self.columns:
            values = episode.column(name).reshape(episode.steps, -1)
            schema = schemas.of_values(values.dtype)
            yield _channel(writer, f"/{name}", schema), partial(_row, values, schema)


def _channel(writer: Writer, topic: str, schema: str) -> int:
    # Channels of one type share its schema, which the file has once for each of them: a few hundred bytes.
    number = writer.register_schema(schema, "protobuf", schemas.file_descriptor_set(schema))
    return writer.register_channel(topic, "protobuf", number)


def _image(episode: Episode, camera: str, step: int, time: int) -> bytes:
    return schemas.serialize(
        schemas.COMPRESSED_IMAGE, time, frame_id=camera, data=episode.jpeg(camera, step), format="jpeg"
    )


def _row(values: NDArray[Any], schema: str, step: int, time: int) -> bytes:
    return schemas.serialize(schema, time, values=values[step].tolist())
