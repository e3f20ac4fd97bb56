"""One episode as the formats read it: checked columns, checked JPEG bytes, decoded frames, attributes, documents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from protocol.checksum import frame_checksum
from protocol.errors import CorruptionError, DatasetError
from protocol.jpeg import encode
from protocol.shard_view import EpisodeView, ShardView
from protocol.spec import Camera, StreamSpec
from sink.export.plan import Entry

# Of JPEGs that are made of video: what this loses is far below what the video has lost.
_ANEW_QUALITY = 95


class Episode:
    """A committed episode with its place in the export. Nothing is read before it is asked for.

    Everything that is handed out was compared with its checksum; CorruptionError names the place of what differs.
    """

    def __init__(self, view: EpisodeView, entry: Entry) -> None:
        """Raises CorruptionError if columns or attributes differ from their checksum."""
        view.check_columns()
        self.entry = entry
        self._view = view
        self._places = {camera.name: view.frame_table(camera.name) for camera in self.spec.cameras}

    @property
    def spec(self) -> StreamSpec:
        """The stream's schema."""
        return self._view.shard.spec

    @property
    def position(self) -> int:
        """Its number in the export, from 0."""
        return self.entry.position

    @property
    def index(self) -> int:
        """Its index in the stream."""
        return self.entry.index

    @property
    def steps(self) -> int:
        """T."""
        return self.entry.steps

    @property
    def success(self) -> bool:
        """It was recorded as a success."""
        return self.entry.outcome == "success"

    @property
    def seed(self) -> int:
        """What the simulator was seeded with."""
        return int(self._view.row["seed"])

    @property
    def began_ns(self) -> int:
        """When it began, on the producer's clock [ns, Unix time]."""
        return int(self._view.row["began_ns"])

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The attribute document."""
        return self._view.attributes()

    def document(self, name: str) -> bytes | None:
        """A text that episodes share, e.g. `model_xml`; None if this one has none of that name."""
        sha256 = self.attributes.get("documents", {}).get(name)
        return None if sha256 is None else self._view.shard.document(sha256)

    def column(self, name: str) -> NDArray[Any]:
        """dtype[T, *shape] of a column as it is stored, e.g. `states`, read-only."""
        return self._view.column(name)

    def floats(self, name: str) -> NDArray[np.float32]:
        """float32[T, n] of a column, what is in a row side by side."""
        return np.ascontiguousarray(self.column(name).reshape(self.steps, -1), dtype=np.float32)

    def jpeg(self, camera: str, step: int) -> bytes:
        """The JPEG of one step: upright, true RGB for every viewer. Of a packed shard it is made anew, of its video."""
        if self._view.shard.packing is not None:
            return encode(self.image(camera, step), _ANEW_QUALITY)
        place = self._places[camera][step]
        data = self._view.shard.blob(int(place["offset"]), int(place["size"]))
        if frame_checksum(data) != int(place["checksum"]):
            shard = self._view.shard.layout.path
            raise CorruptionError(
                f"{shard}: row {self._view.number}, index {self.index}: camera {camera!r}, step {step}: frame differs "
                "from its checksum; `headrace verify` lists all damage"
            )
        return data

    def jpegs(self, camera: str) -> Iterator[bytes]:
        """The JPEGs of all steps."""
        return (self.jpeg(camera, step) for step in range(self.steps))

    def image(self, camera: str, step: int, into: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8[H, W, 3], upright RGB. into: a contiguous array of that shape that is filled and returned."""
        if self._view.shard.packing is not None:
            shown = self._view.image(camera, step)
            if into is None:
                return shown
            into[:] = shown
            return into
        data = self.jpeg(camera, step)
        try:
            image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=into)
        except ValueError as error:
            where = f"{self._view.shard.layout.path}: index {self.index}, camera {camera!r}, step {step}"
            raise CorruptionError(f"{where}: libjpeg-turbo cannot decode this frame: {error}") from error
        return image

    def camera(self, name: str) -> Camera:
        """A camera of the stream."""
        return next(camera for camera in self.spec.cameras if camera.name == name)


class Reader:
    """Opens episodes of a dataset directory; each shard once. `with` closes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shards: dict[str, ShardView] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def episode(self, entry: Entry) -> Episode:
        """The episode of an entry. Raises DatasetError if it is not there (any more), CorruptionError."""
        shard = self._shards.get(entry.shard)
        if shard is None:
            try:
                shard = self._shards[entry.shard] = ShardView(self._root / entry.shard)
            except FileNotFoundError as error:
                raise DatasetError(f"{self._root / entry.shard} has disappeared; was the dataset moved?") from error
        if entry.row >= len(shard):
            shard.refresh()
        if entry.row >= len(shard) or shard.episode(entry.row).index != entry.index:
            raise DatasetError(f"{shard.layout.path} has no index {entry.index} in row {entry.row}; was it replaced?")
        return Episode(shard.episode(entry.row), entry)
