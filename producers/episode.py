"""An episode while it is recorded: checks every step against the stream's spec, on the side that can mend it."""

from __future__ import annotations

import hashlib
import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsIndex

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocol import jpeg
from protocol.checksum import Buffer, episode_checksum, frame_checksum
from protocol.errors import EpisodeError
from protocol.messages import End, Outcome
from protocol.spec import MAX_ATTRIBUTE_BYTES, MAX_DOCUMENT_BYTES, Column, StreamSpec

# Frames are sent when this much has gathered, so that small ones share a message.
_BATCH_BYTES = 1024 * 1024

MAX_SEED = 2**63 - 1

Image = NDArray[np.uint8] | bytes


class Outbox(Protocol):
    """Where an episode's parts go: what `Publisher` is to an episode."""

    def touch(self) -> None:
        """The simulation goes on."""
        ...

    def begin(self, index: int) -> None:
        """Begin the episode of a leased index."""
        ...

    def begin_again(self, index: int) -> None:
        """Forget what was sent of it, and begin it again under the same lease."""
        ...

    def send_frames(self, index: int, first: int, count: int, frames: Sequence[Buffer]) -> None:
        """Send the frames of `count` steps."""
        ...

    def send_end(self, end: End, payload: Sequence[Buffer], documents: Sequence[bytes]) -> None:
        """Send the end of an episode."""
        ...

    def abandon(self, index: int) -> None:
        """Give an index back."""
        ...

    def holds(self, index: int) -> bool:
        """The index is leased to us, or its episode waits for its commit."""
        ...


class Episode:
    """One episode of a leased index. Use it with `with`; an exception inside gives the index back to the sink."""

    def __init__(self, outbox: Outbox, index: int, spec: StreamSpec, quality: int) -> None:
        self.index = index
        self.steps = 0
        self.encode_s = 0.0  # spent in JPEG encoding [s]
        self.frame_bytes = 0  # of JPEG so far
        self._outbox, self._spec, self._quality = outbox, spec, quality
        self._max_step_bytes = spec.max_step_frames_bytes
        self._began_ns, self._clock_ns = time.time_ns(), time.monotonic_ns()
        self._rows: dict[str, list[NDArray[np.generic]]] = {column.name: [] for column in spec.columns}
        self._checksums: dict[str, list[int]] = {camera.name: [] for camera in spec.cameras}
        self._pending: list[bytes] = []
        self._pending_bytes = self._sent_steps = 0
        self._ended = False

    def __enter__(self) -> Episode:
        self._outbox.begin(self.index)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ended:
            return
        self._outbox.abandon(self.index)
        if kind is None:
            raise EpisodeError(f"index {self.index}: the episode was left without finish() or fail()")

    @property
    def lost(self) -> bool:
        """The index was given to another producer meanwhile; what is recorded here is dropped."""
        return not self._outbox.holds(self.index)

    def step(self, columns: Mapping[str, ArrayLike], images: Mapping[str, Image] | None = None) -> None:
        """Record one step.

        columns: every column of the spec, dtype[*shape] each. images: every camera of the spec, upright RGB
        uint8[H, W, 3] or JPEG bytes. Raises EpisodeError for whatever does not fit, RefusedError if the sink refused.
        """
        self._check_open()
        self._outbox.touch()
        images = images or {}
        where = f"index {self.index}, step {self.steps}"
        if self.steps >= self._spec.max_steps:
            raise EpisodeError(f"{where}: the stream allows {self._spec.max_steps} steps an episode (max_steps)")
        _check_names(where, "column", self._rows, columns)
        _check_names(where, "camera", self._checksums, images)
        rows = [_row(where, column, columns[column.name]) for column in self._spec.columns]
        frames = [self._encode(where, position, images) for position in range(len(self._spec.cameras))]
        size = sum(map(len, frames))
        if size > self._max_step_bytes:
            raise EpisodeError(f"{where}: {size} bytes of JPEG are over {self._max_step_bytes} a step")
        for column, row in zip(self._spec.columns, rows, strict=True):
            self._rows[column.name].append(row)
        for camera, frame in zip(self._spec.cameras, frames, strict=True):
            self._checksums[camera.name].append(frame_checksum(frame))
        if self._pending_bytes + size > self._max_step_bytes:
            self._flush()
        self._pending += frames
        self._pending_bytes += size
        self.frame_bytes += size
        self.steps += 1
        if self._pending_bytes >= _BATCH_BYTES:
            self._flush()

    def finish(
        self,
        success: bool,
        attributes: Mapping[str, Any] | None = None,
        seed: SupportsIndex = 0,
        documents: Mapping[str, bytes] | None = None,
    ) -> None:
        """End the episode: it is sent, and becomes part of the dataset when the sink has made it durable.

        attributes: whatever describes the episode, as JSON. documents: name → bytes that many episodes share (a model
        XML): stored once a shard; the attributes get `documents: {name: sha256}`.
        """
        self._check_open()
        if not self.steps:
            raise EpisodeError(f"index {self.index}: the episode has no steps; use fail() to record that it failed")
        self._flush()
        columns = [np.stack(self._rows[column.name]) for column in self._spec.columns]
        outcome = Outcome.SUCCESS if success else Outcome.FAILURE
        self._end(outcome, columns, {"success": success, "steps": self.steps, **(attributes or {})}, seed, documents)

    def fail(self, why: str, attributes: Mapping[str, Any] | None = None, seed: SupportsIndex = 0) -> None:
        """Record that this index failed, without storing its steps. The index counts as done."""
        self._check_open()
        if self.steps:
            # Frames may be on their way; Begin makes the sink forget them.
            self._outbox.begin_again(self.index)
            self._checksums = {name: [] for name in self._checksums}
        attributes = {"success": False, "steps": self.steps, "why": why, **(attributes or {})}
        self.steps = 0
        self._end(Outcome.VOID, [], attributes, seed, None)

    def _end(
        self,
        outcome: Outcome,
        columns: list[NDArray[Any]],
        attributes: Mapping[str, Any],
        seed: SupportsIndex,
        documents: Mapping[str, bytes] | None,
    ) -> None:
        documents = documents or {}
        seed = _seed(self.index, seed)
        data = _attributes(self.index, {**attributes, "seed": seed}, documents)
        checksums = [np.array(self._checksums[camera.name], "<u4") for camera in self._spec.cameras]
        end = End(
            session=0,
            index=self.index,
            outcome=outcome,
            steps=self.steps,
            seed=seed,
            began_ns=self._began_ns,
            # Not the wall clock, which may be set while the episode lasts.
            ended_ns=self._began_ns + time.monotonic_ns() - self._clock_ns,
            checksum=episode_checksum(checksums, columns, data),
        )
        payload: list[Buffer] = [data]
        payload += [np.ascontiguousarray(column).reshape(-1).view(np.uint8).data for column in columns]
        self._outbox.send_end(end, payload, list(documents.values()))
        self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            raise EpisodeError(f"index {self.index}: the episode has ended; nothing can be added to it")

    def _encode(self, where: str, position: int, images: Mapping[str, Image]) -> bytes:
        camera = self._spec.cameras[position]
        image = images[camera.name]
        if isinstance(image, bytes):
            try:
                jpeg.check(image, camera)
            except EpisodeError as error:
                raise EpisodeError(f"{where}, {error}") from error
            return image
        expected = (camera.height, camera.width, 3)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
            found = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise EpisodeError(
                f"{where}, camera {camera.name!r}: expected uint8{list(expected)} upright RGB or JPEG bytes, "
                f"found {found}"
            )
        began = time.perf_counter()
        data = jpeg.encode(image, self._quality)
        self.encode_s += time.perf_counter() - began
        return data

    def _flush(self) -> None:
        if self._pending:
            count = self.steps - self._sent_steps
            self._outbox.send_frames(self.index, self._sent_steps, count, self._pending)
            self._sent_steps = self.steps
            self._pending, self._pending_bytes = [], 0


def _check_names(where: str, kind: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if expected.keys() == found.keys():
        return
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        raise EpisodeError(
            f"{where}: expected the {kind}s {sorted(expected)}; missing {sorted(missing)}, unknown {sorted(unknown)}"
        )


def _row(where: str, column: Column, value: ArrayLike) -> NDArray[np.generic]:
    dtype = column.numpy_dtype
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == column.shape:
        # The common case, every step: nothing to convert.
        return _finite(where, column, value.copy())
    place = f"{where}, column {column.name!r}"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EpisodeError(f"{place}: expected {column.dtype}{list(column.shape)}: {error}") from error
    if array.shape != column.shape:
        raise EpisodeError(f"{place}: expected shape {list(column.shape)}, found {list(array.shape)}")
    integers = array.dtype.kind in "iu" and dtype.kind in "iu"
    if not integers and not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise EpisodeError(f"{place}: expected {column.dtype}, found {array.dtype}")
    with np.errstate(over="ignore"):  # becomes an infinity, which is refused below
        row: NDArray[np.generic] = array.astype(dtype)
    if integers and not np.array_equal(row, array):
        raise EpisodeError(f"{place}: {array.tolist()} does not fit {column.dtype}")
    return _finite(where, column, row)


def _finite(where: str, column: Column, row: NDArray[np.generic]) -> NDArray[np.generic]:
    if row.dtype.kind == "f" and not column.allow_nan and not np.isfinite(row).all():
        where = f"{where}, column {column.name!r}"
        raise EpisodeError(f"{where}: NaN or infinity, which the spec forbids: {row.tolist()}")
    return row


def _seed(index: int, seed: SupportsIndex) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise EpisodeError(f"index {index}: seed {seed}; expected an integer from 0 to {MAX_SEED}")
    return number


def _attributes(index: int, attributes: Mapping[str, Any], documents: Mapping[str, bytes]) -> bytes:
    named = {name: hashlib.sha256(data).hexdigest() for name, data in documents.items()}
    for name, data in documents.items():
        if len(data) > MAX_DOCUMENT_BYTES:
            raise EpisodeError(f"index {index}: document {name!r} has {len(data)} bytes; at most {MAX_DOCUMENT_BYTES}")
    full = {**attributes, **({"documents": named} if named else {})}
    try:
        data = msgspec.json.encode(full)
    except (TypeError, ValueError) as error:
        raise EpisodeError(f"index {index}: the attributes cannot be written as JSON: {error}") from error
    if len(data) > MAX_ATTRIBUTE_BYTES:
        raise EpisodeError(
            f"index {index}: the attributes take {len(data)} bytes of JSON; at most {MAX_ATTRIBUTE_BYTES} are allowed"
        )
    return data
