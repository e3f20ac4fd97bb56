"""Rerun's own readers on what we wrote: `read_rerun.py RECORDINGS LEROBOT MCAP TRUTH.npz`, in Rerun's environment.

It reads the recordings, and with the same library the LeRobot dataset and the MCAP files, which it opens too.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from rerun.chunk import McapReader, RrdReader
from rerun.experimental import LeRobotReader

COLUMNS = ("action", "observations/qpos", "observations/grid", "contact", "states")
CAMERAS = ("front", "wrist")
# Another build of libjpeg-turbo may round otherwise [levels of 255].
NEAR = 2


def main(recordings: Path, lerobot: Path, mcap: Path, truth: Any) -> None:
    """Raises AssertionError."""
    for position in range(int(truth["count"])):
        check_recording(recordings / f"episode_{position:06d}.rrd", truth, position)
        check_mcap(mcap / f"episode_{position:06d}.mcap", truth, position)
    say("every row and picture of the recordings, at its step and time")
    say("every picture of the MCAP files, found by Foxglove's schema, and as many rows as there are steps")
    reader = LeRobotReader(lerobot)
    assert (reader.version, reader.episodes()) == ("v3", list(range(int(truth["count"]))))
    found = rows_by_path(reader.stream(0).to_chunks())
    assert any("action" in path for path in found), sorted(found)
    say("the LeRobot dataset: its episodes, and the first one's streams")


def check_recording(path: Path, truth: Any, position: int) -> None:
    """One recording."""
    found = rows_by_path(RrdReader(path).stream().to_chunks())
    steps = len(truth[f"{position}/action"])
    for name in COLUMNS:
        rows = found[f"/{name}"]
        expected = truth[f"{position}/{name}"].reshape(steps, -1).astype(float)
        np.testing.assert_array_equal([row["Scalars:scalars"] for row in rows], expected, err_msg=name)
        check_times(rows, steps, float(truth["rate_hz"]))
    for camera in CAMERAS:
        rows = found[f"/cameras/{camera}"]
        check_times(rows, steps, float(truth["rate_hz"]))
        check_pictures([row["EncodedImage:blob"][0] for row in rows], truth[f"{position}/{camera}"])
    assert len(found["/attributes"]) == 1


def check_mcap(path: Path, truth: Any, position: int) -> None:
    """One MCAP file, as Rerun understands it."""
    found = rows_by_path(McapReader(path).stream().to_chunks())
    steps = len(truth[f"{position}/action"])
    for camera in CAMERAS:
        rows = [row for row in found[f"/images/{camera}"] if "EncodedImage:blob" in row]
        check_pictures([row["EncodedImage:blob"][0] for row in rows], truth[f"{position}/{camera}"])
    for name in COLUMNS:
        assert sum(any(key.startswith("headrace.") for key in row) for row in found[f"/{name}"]) == steps


def rows_by_path(chunks: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    """All rows of an entity, in the order of the file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for chunk in chunks:
        batch = chunk.to_record_batch()
        # Python's own times have no nanoseconds.
        columns = [
            (column.cast(pyarrow.int64()) if pyarrow.types.is_temporal(column.type) else column).to_pylist()
            for column in batch.columns
        ]
        rows = [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
        found.setdefault(str(chunk.entity_path), []).extend(rows)
    return found


def check_times(rows: list[dict[str, Any]], steps: int, rate_hz: float) -> None:
    """Both timelines."""
    assert [row["step"] for row in rows] == list(range(steps))
    times = [row["time"] / 1e9 for row in rows]
    np.testing.assert_allclose(times, np.arange(steps) / rate_hz, atol=1e-9)


def check_pictures(blobs: list[Any], expected: Any) -> None:
    """JPEGs against decoded frames."""
    assert len(blobs) == len(expected)
    for blob, image in zip(blobs, expected, strict=True):
        found = np.asarray(Image.open(io.BytesIO(bytes(blob))).convert("RGB"))
        assert np.abs(found.astype(int) - image).max() <= NEAR


def say(text: str) -> None:
    """A line of the report; what libraries print has no star."""
    sys.stdout.write(f"* {text}\n")


if __name__ == "__main__":
    with np.load(sys.argv[4], allow_pickle=False) as arrays:
        main(*map(Path, sys.argv[1:4]), dict(arrays))
