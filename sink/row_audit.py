"""Do the rows of a shard make sense together? Numbers only; nothing but the frame tables is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.layout import FRAME
from protocol.messages import Outcome
from protocol.spec import MAX_FRAME_BYTES
from sink.fault import Fault
from sink.shard_audit import ShardAudit

MAX_INDEX = 2**62
_UNKNOWN_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class FrameTable:
    """All frames of the rows of a shard: row by row, camera by camera, step by step.

    places: FRAME[F]. cameras: uint8[F], place in the spec. starts: int64[n], where the frames of each row begin.
    usable: bool[F], the place can be read.
    """

    places: NDArray[np.void]
    cameras: NDArray[np.uint8]
    starts: NDArray[np.int64]
    usable: NDArray[np.bool_]


def check_rows(shard: ShardAudit) -> Iterator[Fault]:
    """Indices, outcomes, and the extents that rows claim in the step datasets and in the blob."""
    blob_before = 0
    group_before = -1
    for row, number in zip(shard.rows, shard.numbers.tolist(), strict=True):
        for what in _row_faults(shard, row):
            yield Fault(shard.path, what, number, int(row["index"]))
        group, blob_end = int(row["group_first"]), int(row["blob_end"])
        if group > number or group < group_before:
            what = f"group_first {group}: expected {max(group_before, 0)} to {number}"
            yield Fault(shard.path, what, number, int(row["index"]))
        if blob_end < blob_before:
            what = f"blob_end {blob_end} is before that of the row above, {blob_before}"
            yield Fault(shard.path, what, number, int(row["index"]))
        group_before, blob_before = max(group, group_before), max(blob_end, blob_before)
    yield from _overlapping_steps(shard)


def _row_faults(shard: ShardAudit, row: np.void) -> Iterator[str]:
    """What is wrong with one row alone."""
    outcome, steps, first = int(row["outcome"]), int(row["steps"]), int(row["first_step"])
    capacity = next((shard.lengths[name] for name in shard.lengths if name.startswith("steps/")), None)
    if int(row["index"]) >= MAX_INDEX:
        yield f"the index is not below {MAX_INDEX}"
    if outcome not in set(Outcome):
        yield f"outcome {outcome}: expected one of {[int(each) for each in Outcome]}"
    elif outcome == Outcome.VOID and steps:
        yield f"{steps} steps, but its outcome is VOID, which has none"
    elif outcome != Outcome.VOID and not 1 <= steps <= shard.spec.max_steps:
        yield f"{steps} steps; expected 1 to max_steps {shard.spec.max_steps}"
    if capacity is not None and first + steps > capacity:
        yield f"steps {first} to {first + steps} lie beyond the {capacity} steps of the shard"
    blob_end, attributes_end = int(row["blob_end"]), int(row["attributes_offset"]) + int(row["attributes_size"])
    if blob_end > shard.lengths["blob"]:
        yield f"blob_end {blob_end} lies beyond the blob of {shard.lengths['blob']} bytes"
    if attributes_end > blob_end:
        yield f"the attributes end at blob byte {attributes_end}, after blob_end {blob_end}"


def _overlapping_steps(shard: ShardAudit) -> Iterator[Fault]:
    own = np.flatnonzero(shard.rows["steps"] > 0)
    order = own[np.argsort(shard.rows["first_step"][own], kind="stable")]
    ends = shard.rows["first_step"][order] + shard.rows["steps"][order]
    starts = shard.rows["first_step"][order]
    for place in np.flatnonzero(starts[1:] < ends[:-1]).tolist():
        first, second = order[place], order[place + 1]
        what = f"its steps from {int(starts[place + 1])} overlap those of row {int(shard.numbers[first])}"
        yield Fault(shard.path, what, int(shard.numbers[second]), int(shard.rows["index"][second]))


# --- frames -----------------------------------------------------------------------------------------------------


def read_frame_table(shard: ShardAudit) -> FrameTable:
    """Read the frame tables of all rows; places that cannot be are added to the shard's faults."""
    parts: list[NDArray[np.void]] = [np.empty(0, FRAME)]
    cameras: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
    starts = np.zeros(len(shard.rows), np.int64)
    total = 0
    for position, row in enumerate(shard.rows):
        starts[position] = total
        steps = int(row["steps"])
        for place, camera in enumerate(shard.spec.cameras):
            name = f"steps/images/{camera.name}"
            if steps and int(row["first_step"]) + steps <= shard.lengths[name]:
                data = shard.read(name, int(row["first_step"]) * FRAME.itemsize, steps * FRAME.itemsize)
                parts.append(np.frombuffer(data, FRAME))
            else:
                parts.append(np.zeros(steps, FRAME))
            cameras.append(np.full(steps, place, np.uint8))
            total += steps
    table = FrameTable(np.concatenate(parts), np.concatenate(cameras), starts, np.ones(total, np.bool_))
    _check_places(shard, table)
    return table


def locate(shard: ShardAudit, table: FrameTable, frame: int) -> tuple[int, str, int]:
    """(position of the row in `shard.rows`, camera, step) of frame number `frame` of the table."""
    position = int(np.searchsorted(table.starts, frame, side="right")) - 1
    step = (frame - int(table.starts[position])) % int(shard.rows["steps"][position])
    return position, shard.spec.cameras[table.cameras[frame]].name, step


def frame_fault(shard: ShardAudit, table: FrameTable, frame: int, what: str) -> Fault:
    """A fault of one frame."""
    position, camera, step = locate(shard, table, frame)
    index = int(shard.rows["index"][position])
    return Fault(shard.path, what, int(shard.numbers[position]), index, camera, step)


def _check_places(shard: ShardAudit, table: FrameTable) -> None:
    if not shard.spec.cameras:
        return
    places = table.places
    counts = shard.rows["steps"].astype(np.int64) * len(shard.spec.cameras)
    limits = np.repeat(np.minimum(shard.rows["blob_end"], shard.lengths["blob"]), counts)
    # Sizes are below 2**32 and a sound offset below 2**63, so that the sum cannot wrap where it matters.
    beyond = (places["offset"] >= limits) | (places["offset"] + places["size"] > limits)
    wrong_size = (places["size"] == 0) | (places["size"] > MAX_FRAME_BYTES)
    for frame in np.flatnonzero(beyond | wrong_size).tolist():
        offset, size = int(places[frame]["offset"]), int(places[frame]["size"])
        what = f"frame table: offset {offset}, size {size} cannot be, blob_end is {int(limits[frame])}"
        shard.faults.append(frame_fault(shard, table, frame, what))
    table.usable[:] = ~(beyond | wrong_size)
    _check_sums(shard, table, counts)
    _check_overlap(shard, table)


def _check_sums(shard: ShardAudit, table: FrameTable, counts: NDArray[np.int64]) -> None:
    """The row says how many bytes of JPEG its episode has."""
    sizes = np.concatenate([[0], np.cumsum(table.places["size"], dtype=np.int64)])
    sums = sizes[table.starts + counts] - sizes[table.starts]
    said = shard.rows["frames_bytes"]
    for position in np.flatnonzero((sums != said) & (said != _UNKNOWN_BYTES)).tolist():
        frames = slice(int(table.starts[position]), int(table.starts[position] + counts[position]))
        if table.usable[frames].all():
            what = f"frame tables: sizes add up to {int(sums[position])} bytes, the row says {int(said[position])}"
            row, index = int(shard.numbers[position]), int(shard.rows["index"][position])
            shard.faults.append(Fault(shard.path, what, row, index))


def _check_overlap(shard: ShardAudit, table: FrameTable) -> None:
    usable = np.flatnonzero(table.usable)
    order = usable[np.argsort(table.places["offset"][usable], kind="stable")]
    starts = table.places["offset"][order]
    ends = starts + table.places["size"][order]
    for place in np.flatnonzero(starts[1:] < ends[:-1]).tolist():
        position, camera, step = locate(shard, table, int(order[place]))
        other = f"row {int(shard.numbers[position])}, camera {camera!r}, step {step}"
        what = f"frame table: its bytes at {int(starts[place + 1])} overlap those of {other}"
        shard.faults.append(frame_fault(shard, table, int(order[place + 1]), what))
