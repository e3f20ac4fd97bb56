"""An episode on its way to disk: where its frames lie, and whether what arrived is what was sent."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol import jpeg
from protocol.checksum import Buffer, episode_checksum, frame_checksum
from protocol.errors import EpisodeError, HeadraceError
from protocol.layout import EPISODE, FRAME, Rows
from protocol.messages import End, Outcome, RefusalCode
from protocol.orders import Attempt
from protocol.spec import StreamSpec
from sink.shard_writer import ShardWriter


class RejectedError(HeadraceError):
    """The data of an attempt are not what they should be; `code` is sent to the producer."""

    def __init__(self, code: RefusalCode, why: str) -> None:
        super().__init__(why)
        self.code: RefusalCode = code


class EpisodeUnderWay:
    """Frames gathered for one attempt. They lie in `shard`, and move with the episode when a shard is full."""

    def __init__(self, attempt: Attempt, spec: StreamSpec, shard: ShardWriter) -> None:
        self.attempt = attempt
        self.shard = shard
        self._spec = spec
        # 16 bytes a frame, where lists of int would take 120: an episode may have millions.
        self._offsets, self._sizes, self._checksums = array("Q"), array("I"), array("I")
        shard.open_episodes += 1

    @property
    def frames_bytes(self) -> int:
        """JPEG bytes so far."""
        return sum(self._sizes)

    def check(self, frames: Sequence[Buffer]) -> None:
        """Raise RejectedError unless each frame is a JPEG of its camera's size. Frames come step by step."""
        cameras = self._spec.cameras
        try:
            for place, frame in enumerate(frames):
                jpeg.check(memoryview(frame), cameras[place % len(cameras)])
        except EpisodeError as error:
            step = (len(self._sizes) + place) // len(cameras)
            raise RejectedError("bad_frame", f"index {self.attempt.index}, step {step}, {error}") from error

    def append(self, frames: Sequence[Buffer]) -> None:
        """Write frames to the shard."""
        offset = self.shard.append_blob(frames)
        for frame in frames:
            self._offsets.append(offset)
            self._sizes.append(len(frame))
            self._checksums.append(frame_checksum(frame))
            offset += len(frame)

    def move(self, shard: ShardWriter) -> None:
        """Copy the frames that lie in a full shard to the one that is written now."""
        for place, (offset, size) in enumerate(zip(self._offsets, self._sizes, strict=True)):
            self._offsets[place] = shard.append_blob([self.shard.read_blob(offset, size)])
        self.leave()
        self.shard = shard
        shard.open_episodes += 1

    def leave(self) -> None:
        """This episode needs its shard no more."""
        self.shard.open_episodes -= 1

    def tables(self) -> list[NDArray[np.void]]:
        """FRAME[T] for each camera."""
        cameras = max(len(self._spec.cameras), 1)
        table = np.empty(len(self._offsets), FRAME)
        table["offset"], table["size"], table["checksum"] = self._offsets, self._sizes, self._checksums
        return [np.ascontiguousarray(table[camera::cameras]) for camera in range(len(self._spec.cameras))]

    def check_end(self, end: End, attributes: Buffer, columns: Sequence[Buffer]) -> None:
        """Raise RejectedError unless attributes, columns and the checksum of all are what the producer meant."""
        where = f"index {self.attempt.index}"
        try:
            msgspec.json.decode(attributes, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectedError("bad_message", f"{where}: the attributes are no JSON object: {error}") from error
        for column, data in zip(self._spec.columns, columns, strict=False):
            if column.dtype == "bool" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
                raise RejectedError("bad_columns", f"{where}, column {column.name!r}: a bool is 0 or 1")
            if column.numpy_dtype.kind == "f" and not column.allow_nan:
                values = np.frombuffer(data, column.numpy_dtype)
                finite = np.isfinite(values)
                if not finite.all():
                    step = int(np.flatnonzero(~finite)[0]) * values.itemsize // column.row_bytes
                    why = f"{where}, column {column.name!r}, step {step}: NaN or infinity, which the spec forbids"
                    raise RejectedError("bad_columns", why)
        checksums = [np.ascontiguousarray(table["checksum"]) for table in self.tables()]
        found = episode_checksum(checksums, columns, attributes)
        if found != end.checksum:
            raise RejectedError("bad_checksum", f"{where}: expected checksum {end.checksum:016x}, found {found:016x}")

    def row(self, end: End) -> Rows:
        """The EPISODE row, but for what only the commit knows."""
        row = np.zeros((), EPISODE)
        row["index"], row["outcome"], row["steps"] = end.index, int(end.outcome), end.steps
        row["frames_bytes"] = min(self.frames_bytes, 0xFFFFFFFF)
        row["seed"], row["began_ns"], row["ended_ns"] = end.seed, end.began_ns, end.ended_ns
        row["producer"] = self.attempt.producer.encode()[:64]
        row["data_checksum"] = end.checksum
        return row


def column_frames(end: End, payload: Sequence[Buffer]) -> tuple[Buffer, Sequence[Buffer]]:
    """The attributes and the columns of an End; a VOID record has no columns."""
    return payload[0], () if end.outcome is Outcome.VOID else payload[1:]
