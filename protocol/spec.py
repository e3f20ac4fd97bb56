"""The schema of one stream: which columns, which cameras, how long an episode may be.

Letters used here and everywhere: T steps of an episode, A action size, H × W image size, S step capacity of a shard.
"""

from __future__ import annotations

import re
from functools import cache
from math import prod

import msgspec
import numpy as np

from protocol.errors import SpecError

MIB = 1 << 20

# A frame of a message never exceeds this, so that heartbeats are seen between two of them (libzmq issue 2709).
MAX_FRAME_BYTES = 4 * MIB
# HDF5 stores an attribute in the object header, which ends at 64 KiB; the spec is one attribute.
MAX_SPEC_BYTES = 60_000
MAX_ATTRIBUTE_BYTES = 256 * 1024
MAX_COLUMNS = 64
MAX_CAMERAS = 16
MAX_SIDE = 8192
MAX_STEPS = 1_000_000
MIN_WINDOW_BYTES = 256 * 1024
# The sink keeps 16 bytes for each frame of an episode that has not ended: an eighth of the window at most.
WINDOW_A_FRAME = 128
# A document fits every window.
MAX_DOCUMENT_BYTES = MIN_WINDOW_BYTES

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,3}}")
_CAMERA = re.compile(_PART)
# The folder of a stream must never stand where a file of the dataset belongs.
RESERVED_ENDINGS = (".h5", ".preparing", ".json", ".jsonl", ".draft", ".lock")


@cache
def _little_endian(name: str) -> np.dtype[np.generic]:
    return np.dtype(name).newbyteorder("<")


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One small array per step: `name` → dtype[T, *shape]. NaN and infinities are refused unless `allow_nan`."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    allow_nan: bool = False

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The dtype on the wire and on disk: always little-endian."""
        return _little_endian(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one step."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One JPEG per step: upright RGB, uint8[H, W, 3] once decoded."""

    name: str
    height: int
    width: int

    @property
    def raw_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.height * self.width * 3


class StreamSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every episode of a stream looks like. Two producers of one stream must say the same, field by field.

    name: one to four path parts, e.g. `robosuite/PickPlaceCan`; it is also the folder of the stream.
    rate_hz: control steps per simulated second.
    max_steps: no episode is longer than this, in steps.
    """

    name: str
    rate_hz: float
    max_steps: int
    columns: tuple[Column, ...] = ()
    cameras: tuple[Camera, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes of all columns of one step."""
        return sum(column.row_bytes for column in self.columns)

    @property
    def raw_step_bytes(self) -> int:
        """Bytes of one step with its frames decoded: what storing without compression would take."""
        return self.row_bytes + sum(camera.raw_bytes for camera in self.cameras)

    @property
    def max_step_frames_bytes(self) -> int:
        """The most that the JPEG frames of one step may take together."""
        return min(MAX_FRAME_BYTES, max(MIN_WINDOW_BYTES, self.raw_step_bytes))

    @property
    def max_end_bytes(self) -> int:
        """The most that the payload of an `End` may take: every column at `max_steps`, and the attributes."""
        return self.max_steps * self.row_bytes + MAX_ATTRIBUTE_BYTES

    @property
    def min_window_bytes(self) -> int:
        """The smallest credit window in which every message of this stream can be sent."""
        whole_episode = WINDOW_A_FRAME * self.max_steps * len(self.cameras)
        return max(MIN_WINDOW_BYTES, self.max_step_frames_bytes, self.max_end_bytes, whole_episode)

    def to_json(self) -> bytes:
        """Canonical JSON: keys sorted, so that equal specs give equal bytes."""
        # A rate given as 20 equals one given as 20.0.
        return msgspec.json.encode(msgspec.structs.replace(self, rate_hz=float(self.rate_hz)), order="sorted")

    @classmethod
    def from_json(cls, data: bytes) -> StreamSpec:
        """Decode and check. Raises SpecError."""
        try:
            spec = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SpecError(f"the stream spec is not valid JSON of a StreamSpec: {error}") from error
        spec.check()
        return spec

    def check(self) -> None:
        """Raise SpecError if no dataset could hold this stream."""
        if not _NAME.fullmatch(self.name) or len(self.name) > 128 or ".." in self.name:
            raise SpecError(
                f"stream name {self.name!r}: expected one to four parts of letters, digits, '_', '-' or '.', "
                "joined by '/', at most 128 characters, e.g. 'robosuite/PickPlaceCan'"
            )
        for part in self.name.split("/"):
            if part.endswith(RESERVED_ENDINGS):
                raise SpecError(
                    f"stream name {self.name!r}: {part!r} ends like a file of the dataset; no part may end in "
                    f"{', '.join(RESERVED_ENDINGS)}"
                )
        if not 0 < self.rate_hz < 1e6:
            raise SpecError(f"stream {self.name!r}: rate_hz {self.rate_hz} must be above 0 and below 1e6")
        if not 1 <= self.max_steps <= MAX_STEPS:
            raise SpecError(f"stream {self.name!r}: max_steps {self.max_steps} must be from 1 to {MAX_STEPS}")
        if len(self.columns) > MAX_COLUMNS or len(self.cameras) > MAX_CAMERAS:
            raise SpecError(
                f"stream {self.name!r}: {len(self.columns)} columns and {len(self.cameras)} cameras; "
                f"at most {MAX_COLUMNS} and {MAX_CAMERAS} are allowed"
            )
        self._check_columns()
        self._check_cameras()
        if len(self.to_json()) > MAX_SPEC_BYTES:
            raise SpecError(f"stream {self.name!r}: the spec takes more than {MAX_SPEC_BYTES} bytes of JSON")

    def _check_columns(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise SpecError(f"stream {self.name!r}: a column name occurs twice in {names}")
        for column in self.columns:
            where = f"stream {self.name!r}, column {column.name!r}"
            if not _NAME.fullmatch(column.name) or column.name.split("/")[0] == "images":
                raise SpecError(f"{where}: a column name has one to four parts and does not begin with 'images'")
            nested = [name for name in names if name.startswith(column.name + "/")]
            if nested:
                raise SpecError(f"{where}: it cannot be an array and the folder of {nested[0]!r} at once")
            if column.dtype not in DTYPES:
                raise SpecError(f"{where}: dtype {column.dtype!r} is none of {', '.join(DTYPES)}")
            if len(column.shape) > 4 or any(side < 1 for side in column.shape):
                raise SpecError(f"{where}: shape {column.shape} must have at most 4 sides, each at least 1")
            if column.row_bytes * self.max_steps > MAX_FRAME_BYTES:
                raise SpecError(
                    f"{where}: {column.row_bytes} bytes a step × max_steps {self.max_steps} is over "
                    f"{MAX_FRAME_BYTES} bytes; lower max_steps, or send large arrays as camera frames"
                )

    def _check_cameras(self) -> None:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise SpecError(f"stream {self.name!r}: a camera name occurs twice in {names}")
        for camera in self.cameras:
            where = f"stream {self.name!r}, camera {camera.name!r}"
            if not _CAMERA.fullmatch(camera.name):
                raise SpecError(f"{where}: a camera name is letters, digits, '_', '-' and '.'")
            if not (1 <= camera.height <= MAX_SIDE and 1 <= camera.width <= MAX_SIDE):
                raise SpecError(f"{where}: {camera.height}×{camera.width}: each side must be 1 to {MAX_SIDE} pixels")


def differences(expected: StreamSpec, found: StreamSpec) -> list[str]:
    """Say in words where `found` differs from `expected`; empty if they are equal."""
    rows = [
        f"{field}: expected {getattr(expected, field)}, found {getattr(found, field)}"
        for field in ("name", "rate_hz", "max_steps")
        if getattr(expected, field) != getattr(found, field)
    ]
    for kind in ("columns", "cameras"):
        ours = {item.name: item for item in getattr(expected, kind)}
        theirs = {item.name: item for item in getattr(found, kind)}
        rows += [f"{kind[:-1]} {name!r}: missing" for name in ours if name not in theirs]
        rows += [f"{kind[:-1]} {name!r}: not in the stream" for name in theirs if name not in ours]
        rows += [
            f"{kind[:-1]} {name!r}: expected {_describe(ours[name])}, found {_describe(theirs[name])}"
            for name in ours
            if name in theirs and ours[name] != theirs[name]
        ]
        if not rows and list(ours) != list(theirs):
            rows.append(f"{kind}: expected the order {list(ours)}, found {list(theirs)}")
    return rows


def _describe(item: Column | Camera) -> str:
    if isinstance(item, Camera):
        return f"{item.height}×{item.width}"
    return f"{item.dtype}{list(item.shape)}" + (" (NaN allowed)" if item.allow_nan else "")
