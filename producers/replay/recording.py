"""What a recorded dataset is to the worker that publishes it, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.errors import EpisodeError, SpecError
from protocol.spec import DTYPES, Camera, Column, StreamSpec

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T steps.

    columns: dtype[T, *shape] each. frame: of a camera at a step, JPEG bytes or upright RGB uint8[H, W, 3].
    documents: texts that many episodes share, as `Episode.finish` takes them.
    """

    steps: int
    columns: Mapping[str, NDArray[Any]]
    frame: Callable[[str, int], bytes | NDArray[np.uint8]]
    success: bool = True
    seed: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What all episodes of a recording have in common. rate_hz: None where the format does not say."""

    columns: tuple[Column, ...]
    cameras: tuple[Camera, ...]
    max_steps: int
    rate_hz: float | None


class Recording(Protocol):
    """A dataset that is read and never changed. Episodes are numbered from 0."""

    format: str
    layout: Layout

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """Where an episode is, for people."""
        ...

    def episode(self, number: int) -> AbstractContextManager[RecordedEpisode]:
        """Open one; its columns and frames are read until the block ends. Raises EpisodeError, OSError."""
        ...


def column(name: str, dtype: np.dtype[Any], shape: Sequence[int], where: str) -> Column:
    """The column that holds an array of this dtype and row shape. Raises SpecError if there is none."""
    kind = "float32" if dtype == np.float16 else dtype.newbyteorder("=").name
    if kind not in DTYPES:
        raise SpecError(f"{where}: dtype {dtype} of {name!r} cannot be published; expected one of {', '.join(DTYPES)}")
    return Column(name, kind, tuple(int(side) for side in shape))


def camera(name: str, shape: Sequence[int]) -> Camera:
    """The camera whose decoded frames are uint8[*shape], H × W × 3."""
    return Camera(name, int(shape[0]), int(shape[1]))


def check_same(layout: Layout, columns: Sequence[Column], cameras: Sequence[Camera], where: str) -> None:
    """Raise EpisodeError unless an episode has the columns and cameras of the first one."""
    expected: set[Column | Camera] = {*layout.columns, *layout.cameras}
    found: set[Column | Camera] = {*columns, *cameras}
    if expected != found:
        missing = sorted(item.name for item in expected - found)
        other = sorted(item.name for item in found - expected)
        raise EpisodeError(
            f"{where}: it is not like the first episode: missing or of another shape {missing}, found instead {other}; "
            "split the recording"
        )


def default_stream(source: Path) -> str:
    """`replay/NAME` after the file or folder."""
    name = _NOT_A_NAME.sub("_", source.resolve().name.removesuffix(".hdf5").removesuffix(".h5")).strip("_.-")
    return f"replay/{name or 'recording'}"


def stream_spec(name: str, layout: Layout, rate_hz: float) -> StreamSpec:
    """The schema under which a recording is published. Raises SpecError."""
    spec = StreamSpec(name, rate_hz, layout.max_steps, layout.columns, layout.cameras)
    spec.check()
    return spec
