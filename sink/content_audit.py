"""Reads every byte that the rows of a shard claim, and compares it with its checksums.

Frames are read in the order in which they lie on the disk, in large pieces, by several threads; columns and attributes
follow, row by row. The checksum of an episode covers those of its frames, so that a frame and its entry in the frame
table can be told apart: whichever disagrees with the episode is the damaged one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from protocol.messages import Outcome
from sink.fault import Fault
from sink.row_audit import FrameTable, frame_fault, locate
from sink.shard_audit import ShardAudit, UnreadableError

PIECE_BYTES = 8 << 20
ROWS_A_TASK = 64

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU T.81, table B.1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_START_CODE = b"\0\0\1"  # ITU H.264, annex B
_KEY_FRAME = {5, 7, 8}
OnBytes = Callable[[int], object]


def jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """(height, width) of a JPEG in pixels; None if it is none. Walks the segments up to the start of frame."""
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            return data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
        at += 1 if marker == 0xFF else 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def video_kinds(data: bytes) -> set[int]:
    """The types of the NAL units of an H.264 packet: 1 frame, 5 key frame, 7 and 8 what a decoder begins with."""
    kinds, at = set(), data.find(_START_CODE)
    while 0 <= at < len(data) - len(_START_CODE):
        kinds.add(data[at + len(_START_CODE)] & 31)
        at = data.find(_START_CODE, at + 1)
    return kinds


class ContentAudit:
    """One shard. `run` gives the faults; `on_bytes` is told how far it is, from several threads."""

    def __init__(self, shard: ShardAudit, table: FrameTable, on_bytes: OnBytes, first_document: int = 0) -> None:
        """first_document: those before it are known to be right; rows may refer to them."""
        self._shard, self._table, self._on_bytes = shard, table, on_bytes
        self._first_document = first_document
        self._found = table.places["checksum"].copy()
        self._documents = {bytes(row["sha256"]).decode("ascii", "replace") for row in shard.documents}

    @property
    def total_bytes(self) -> int:
        """What will be read, frame tables and rows not counted."""
        rows, spec = self._shard.rows, self._shard.spec
        small = rows["steps"].astype(np.int64) * spec.row_bytes + rows["attributes_size"]
        frames = self._table.places["size"][self._table.usable]
        return int(small.sum()) + int(frames.sum(dtype=np.int64)) + int(self._shard.documents["size"].sum())

    def run(self, pool: ThreadPoolExecutor) -> Iterator[Fault]:
        """Read everything."""
        for faults in pool.map(self._check_piece, self._pieces()):
            yield from faults
        yield from self._check_documents()
        positions = range(0, len(self._shard.rows), ROWS_A_TASK)
        for faults in pool.map(self._check_episodes, positions):
            yield from faults

    # --- frames -----------------------------------------------------------------------------------------------

    def _pieces(self) -> list[NDArray[np.int64]]:
        """Frames in the order of the disk, cut where a piece is full."""
        usable = np.flatnonzero(self._table.usable)
        offsets = self._table.places["offset"][usable]
        order = np.argsort(offsets, kind="stable")
        cuts = np.flatnonzero(np.diff(offsets[order] // PIECE_BYTES)) + 1
        return [piece for piece in np.split(usable[order], cuts) if len(piece)]

    def _check_piece(self, frames: NDArray[np.int64]) -> list[Fault]:
        """Sets `_found`; returns faults that a right checksum does not exclude."""
        places = self._table.places[frames]
        first = int(places["offset"][0])
        end = int((places["offset"] + places["size"]).max())
        try:
            data = memoryview(self._shard.read("blob", first, end - first))
        except UnreadableError as error:
            self._table.usable[frames] = False
            return [frame_fault(self._shard, self._table, int(frames[0]), error.fault.what)]
        faults = []
        digest = xxhash.xxh3_64_intdigest
        for frame, (offset, size, checksum) in zip(frames.tolist(), places.tolist(), strict=True):
            picture = data[offset - first : offset - first + size]
            found = digest(picture) & 0xFFFFFFFF
            if found != checksum:
                self._found[frame] = found
            elif what := self._picture_fault(frame, picture):
                faults.append(frame_fault(self._shard, self._table, frame, what))
        self._on_bytes(int(places["size"].sum(dtype=np.int64)))
        return faults

    def _picture_fault(self, frame: int, picture: memoryview) -> str:
        if self._shard.packing is not None:
            return self._packet_fault(frame, self._shard.packing.gop, picture)
        size = jpeg_size(picture)
        camera = self._shard.spec.cameras[self._table.cameras[frame]]
        if size is None or bytes(picture[-2:]) != b"\xff\xd9":
            return f"expected a whole JPEG, found {len(picture)} bytes that are none"
        if size != (camera.height, camera.width):
            return f"expected a JPEG of {camera.height}×{camera.width} pixels, found {size[0]}×{size[1]}"
        return ""

    def _packet_fault(self, frame: int, gop: int, packet: memoryview) -> str:
        kinds, step = video_kinds(bytes(packet)), locate(self._shard, self._table, frame)[2]
        if step % gop == 0 and not kinds >= _KEY_FRAME:
            return f"expected a key frame of H.264 with all that a decoder needs, found NAL units {sorted(kinds)}"
        if step % gop and (1 not in kinds or 5 in kinds):
            return f"expected a frame of H.264 that is no key frame, found NAL units {sorted(kinds)}"
        return ""

    # --- documents and episodes -------------------------------------------------------------------------------

    def _check_documents(self) -> Iterator[Fault]:
        new = self._shard.documents[self._first_document :]
        for number, row in enumerate(new, self._first_document):
            name = bytes(row["sha256"]).decode("ascii", "replace")
            try:
                data = self._shard.read("blob", int(row["offset"]), int(row["size"]))
            except UnreadableError as error:
                yield error.fault
                continue
            self._on_bytes(len(data))
            found = hashlib.sha256(data).hexdigest()
            if found != name:
                what = f"documents, row {number}: expected the SHA-256 {name}, found {found}"
                yield Fault(self._shard.path, what)

    def _check_episodes(self, first: int) -> list[Fault]:
        faults: list[Fault] = []
        for position in range(first, min(first + ROWS_A_TASK, len(self._shard.rows))):
            try:
                faults += self._check_episode(position)
            except UnreadableError as error:
                faults.append(self._fault(position, error.fault.what))
        return faults

    def _check_episode(self, position: int) -> Iterator[Fault]:
        row = self._shard.rows[position]
        attributes = self._shard.read("blob", int(row["attributes_offset"]), int(row["attributes_size"]))
        columns = self._columns(row)
        self._on_bytes(len(attributes) + sum(map(len, columns)))
        start = int(self._table.starts[position])
        frames = slice(start, start + int(row["steps"]) * len(self._shard.spec.cameras))
        said, found = self._table.places["checksum"][frames], self._found[frames]
        tail, expected = (*columns, attributes), int(row["data_checksum"])
        if _digest(said, tail) == expected:
            yield from self._wrong_frames(frames, said != found, "the frame differs from its checksum")
            yield from self._meaning_faults(position, attributes, columns)
        elif _digest(found, tail) == expected:
            yield from self._wrong_frames(frames, said != found, "frame table: the checksum is wrong, the frame whole")
        else:
            yield from self._wrong_frames(frames, said != found, "the frame, or its entry in the frame table, differs")
            yield self._fault(position, self._suspects(row, attributes))

    def _columns(self, row: np.void) -> list[bytes]:
        if int(row["outcome"]) == Outcome.VOID:
            return []
        first, steps = int(row["first_step"]), int(row["steps"])
        return [
            self._shard.read(f"steps/{column.name}", first * column.row_bytes, steps * column.row_bytes)
            for column in self._shard.spec.columns
        ]

    def _wrong_frames(self, frames: slice, wrong: NDArray[np.bool_], what: str) -> Iterator[Fault]:
        for frame in (np.flatnonzero(wrong & self._table.usable[frames]) + frames.start).tolist():
            yield frame_fault(self._shard, self._table, frame, what)

    def _suspects(self, row: np.void, attributes: bytes) -> str:
        """One checksum covers columns and attributes, so only what cannot be JSON can be told apart."""
        if _parse(attributes) is None:
            return "the attributes are no JSON object, and the episode differs from its checksum"
        first, steps = int(row["first_step"]), int(row["steps"])
        columns = ", ".join(f"steps/{column.name}" for column in self._shard.spec.columns) or "no column"
        return (
            f"the episode differs from its checksum: damage in rows {first} to {first + steps} of {columns}, or in its "
            f"attributes, blob bytes {int(row['attributes_offset'])} to "
            f"{int(row['attributes_offset']) + int(row['attributes_size'])}"
        )

    def _meaning_faults(self, position: int, attributes: bytes, columns: list[bytes]) -> Iterator[Fault]:
        """What the writer should never have let in."""
        parsed = _parse(attributes)
        if parsed is None:
            yield self._fault(position, "the attributes are no JSON object")
        named = (parsed or {}).get("documents")
        for name, sha256 in (named if isinstance(named, dict) else {}).items():
            if isinstance(sha256, str) and _SHA256.fullmatch(sha256) and sha256 not in self._documents:
                yield self._fault(position, f"its document {name!r}, SHA-256 {sha256}, is not in the shard")
        for column, data in zip(self._shard.spec.columns, columns, strict=False):
            if column.numpy_dtype.kind == "f" and not column.allow_nan:
                wrong = np.flatnonzero(~np.isfinite(np.frombuffer(data, column.numpy_dtype)))
                if len(wrong):
                    step = int(wrong[0]) * column.numpy_dtype.itemsize // column.row_bytes
                    what = f"column {column.name!r}, step {step}: NaN or infinity, which the spec forbids"
                    yield self._fault(position, what)

    def _fault(self, position: int, what: str) -> Fault:
        row, index = int(self._shard.numbers[position]), int(self._shard.rows["index"][position])
        return Fault(self._shard.path, what, row, index)


def _digest(checksums: NDArray[np.uint32], rest: tuple[bytes, ...]) -> int:
    """Frame checksums camera by camera, columns, attributes: SPEC.md section 3."""
    digest = xxhash.xxh3_64(checksums.astype("<u4").tobytes())
    for part in rest:
        digest.update(part)
    return digest.intdigest()


def _parse(attributes: bytes) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(attributes, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return None
