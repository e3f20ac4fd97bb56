"""What LeRobot calls the columns and cameras of a stream, and how they lie in parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from protocol.spec import Camera, Column, StreamSpec
from sink.export.columns import chosen_columns

STATE, ACTION = "observation.state", "action"
_PICTURES = "observation.images."
_OBSERVATIONS = "observations/"
# What LeRobot adds to every dataset: name → dtype, one number a step each.
DEFAULTS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True)
class Feature:
    """One feature made from columns, side by side if they are several. shape: of one step."""

    key: str
    columns: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]

    def values(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """dtype[T, *shape] from the columns that this is made of, each [T, …]."""
        if len(columns) == 1:
            return columns[0].reshape(-1, *self.shape)
        return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1, dtype=self.dtype)

    def to_info(self) -> dict[str, Any]:
        """Its entry in info.json."""
        flat = len(self.shape) == 1
        names = [f"{self.key.rsplit('.', 1)[-1]}_{number}" for number in range(self.shape[0])] if flat else None
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names}


def picture_key(camera: str) -> str:
    """What a camera is called."""
    return _PICTURES + camera


def choose(spec: StreamSpec, state: Sequence[str], action: str, others: Sequence[str]) -> tuple[Feature, ...]:
    """The features of a stream. others: columns besides state and action, all if none. Raises ConfigurationError."""
    columns = {column.name: column for column in spec.columns}
    chosen_columns(spec, (*state, action))
    left = [name for name in chosen_columns(spec, others) if name not in (*state, action)]
    made = [_named(STATE, [columns[name] for name in state])] if state else []
    made.append(_named(ACTION, [columns[action]]))
    made += [_named(_key(name), [columns[name]]) for name in left]
    keys = [feature.key for feature in made] + [picture_key(camera.name) for camera in spec.cameras] + [*DEFAULTS]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigurationError(
                f"stream {spec.name!r}: two columns would be called {key!r} in LeRobot; choose with --columns"
            )
    return tuple(made)


def picture_info(camera: Camera, video: dict[str, Any] | None) -> dict[str, Any]:
    """The entry of a camera in info.json. video: what is said about its files; None if they are pictures."""
    shape, names = [camera.height, camera.width, 3], ["height", "width", "channels"]
    if video is None:
        return {"dtype": "image", "shape": shape, "names": names}
    return {"dtype": "video", "shape": shape, "names": names, "info": video}


def default_info() -> dict[str, Any]:
    """The entries of what LeRobot adds."""
    return {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in DEFAULTS.items()}


def _named(key: str, columns: Sequence[Column]) -> Feature:
    names = tuple(column.name for column in columns)
    if len(columns) == 1:
        return Feature(key, names, columns[0].dtype, columns[0].shape or (1,))
    size = sum(int(np.prod(column.shape, dtype=np.int64)) for column in columns)
    return Feature(key, names, "float32", (size,))


def _key(name: str) -> str:
    if name.startswith(_OBSERVATIONS):
        name = "observation/" + name.removeprefix(_OBSERVATIONS)
    return name.replace("/", ".")
