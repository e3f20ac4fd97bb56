"""What batches look like, from what was asked for and what the streams have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import msgspec

from protocol.errors import DatasetError
from protocol.spec import Camera, Column, StreamSpec, differences
from trainer.live.options import Sample


@dataclass(frozen=True)
class Schema:
    """state_dim D, action_dim A; cameras: name → (height, width) of the images in a batch [pixels]."""

    state_dim: int
    action_dim: int
    cameras: dict[str, tuple[int, int]]
    rate_hz: float


class SchemaCheck:
    """The first stream says what the others must have; of each only what was chosen counts."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._first: StreamSpec | None = None
        self._first_name = ""
        self.schema: Schema | None = None
        self.cameras: tuple[str, ...] = sample.cameras or ()

    def admit(self, spec: StreamSpec) -> None:
        """Raises DatasetError if the stream lacks what was chosen, or has it otherwise than the first."""
        if self._first is None:
            if self._sample.cameras is None:
                self.cameras = tuple(camera.name for camera in spec.cameras)
            self._first, self._first_name = self._chosen(spec), spec.name
            self.schema = self._describe(self._first)
            return
        found = differences(self._first, self._chosen(spec))
        if found:
            raise DatasetError(
                f"streams {self._first_name!r} and {spec.name!r} cannot be mixed: {'; '.join(found)}. Choose one of "
                "them with `streams`" + (", or give an image_size" if "×" in "".join(found) else "")
            )

    def _chosen(self, spec: StreamSpec) -> StreamSpec:
        columns = {column.name: column for column in spec.columns}
        cameras = {camera.name: camera for camera in spec.cameras}
        for name in (*self._sample.states, self._sample.action):
            _require(spec, "column", name, columns)
        for name in self.cameras:
            _require(spec, "camera", name, cameras)
        names = dict.fromkeys((*self._sample.states, self._sample.action))
        return msgspec.structs.replace(
            spec,
            name="chosen",
            max_steps=1,
            columns=tuple(columns[name] for name in names),
            cameras=tuple(self._sized(cameras[name]) for name in self.cameras),
        )

    def _sized(self, camera: Camera) -> Camera:
        height, width = self._sample.image_size or (camera.height, camera.width)
        return Camera(camera.name, height, width)

    def _describe(self, chosen: StreamSpec) -> Schema:
        columns = {column.name: column for column in chosen.columns}
        return Schema(
            state_dim=sum(_width(columns[name]) for name in self._sample.states),
            action_dim=_width(columns[self._sample.action]),
            cameras={camera.name: (camera.height, camera.width) for camera in chosen.cameras},
            rate_hz=chosen.rate_hz,
        )


def _width(column: Column) -> int:
    return prod(column.shape)


def _require(spec: StreamSpec, kind: str, name: str, there: Iterable[str]) -> None:
    if name not in there:
        names = ", ".join(there) or "none"
        raise DatasetError(f"stream {spec.name!r} has no {kind} {name!r}; its {kind}s are: {names}")
