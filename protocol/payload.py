"""Do the payload frames of a message have the number and the sizes that its header and the spec say?"""

from __future__ import annotations

from protocol.errors import EpisodeError
from protocol.messages import End, Frames, Outcome
from protocol.spec import MAX_ATTRIBUTE_BYTES, StreamSpec


def check_frames(spec: StreamSpec, message: Frames, sizes: tuple[int, ...], steps: int) -> None:
    """Check a Frames message after `steps` steps of its episode. sizes: of its payload. Raises EpisodeError."""
    where = f"stream {spec.name!r}, index {message.index}"
    if not spec.cameras:
        raise EpisodeError(f"{where}: the stream has no cameras, but frames came")
    if message.first != steps:
        raise EpisodeError(f"{where}: expected frames from step {steps}, found step {message.first}")
    if message.first + message.count > spec.max_steps:
        raise EpisodeError(f"{where}: the episode is longer than max_steps {spec.max_steps}")
    cameras = len(spec.cameras)
    if len(message.sizes) != message.count * cameras:
        raise EpisodeError(
            f"{where}: expected {message.count} steps of {cameras} cameras = {message.count * cameras} frames, "
            f"found {len(message.sizes)}"
        )
    if 0 in message.sizes:
        raise EpisodeError(f"{where}: frame {message.sizes.index(0)} of the message is empty")
    if sizes != (sum(message.sizes),):
        raise EpisodeError(f"{where}: expected one payload frame of {sum(message.sizes)} bytes of JPEG, found {sizes}")


def check_end(spec: StreamSpec, message: End, sizes: tuple[int, ...], steps: int) -> None:
    """Check an End message after `steps` steps of frames. Raises EpisodeError."""
    where = f"stream {spec.name!r}, index {message.index}"
    if message.outcome is Outcome.VOID:
        expected: tuple[int, ...] = ()
        if message.steps or steps:
            raise EpisodeError(f"{where}: a VOID record has no steps, found {max(message.steps, steps)}")
    else:
        expected = tuple(message.steps * column.row_bytes for column in spec.columns)
        if not 1 <= message.steps <= spec.max_steps:
            raise EpisodeError(f"{where}: {message.steps} steps; expected 1 to max_steps {spec.max_steps}")
        if spec.cameras and message.steps != steps:
            raise EpisodeError(f"{where}: End says {message.steps} steps, frames came for {steps}")
    if len(sizes) != 1 + len(expected):
        raise EpisodeError(
            f"{where}: expected the attributes and {len(expected)} columns as payload, found {len(sizes)} frames"
        )
    if not 2 <= sizes[0] <= MAX_ATTRIBUTE_BYTES:
        raise EpisodeError(f"{where}: the attributes take {sizes[0]} bytes; expected 2 to {MAX_ATTRIBUTE_BYTES}")
    for column, size, found in zip(spec.columns, expected, sizes[1:], strict=False):
        if size != found:
            raise EpisodeError(
                f"{where}, column {column.name!r}: expected {message.steps} steps × {column.row_bytes} bytes = {size}, "
                f"found {found}"
            )
