"""Fakes that are oracles: episodes that are a pure function of (stream, index), and a reader that knows them all.

The reader uses raw h5py and its own arithmetic, nothing of `protocol` or `sink`: what it finds is what any user finds.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from producers.publisher import Publisher
from protocol.jpeg import encode
from protocol.messages import End, Outcome
from protocol.spec import Camera, Column, StreamSpec

SUCCESS, FAILURE, VOID = 1, 2, 3
HEIGHT, WIDTH = 48, 64
MAX_STEPS = 40


def counting_spec(name: str = "tests/counting", cameras: int = 2, max_steps: int = MAX_STEPS) -> StreamSpec:
    """Columns of every kind of dtype, small cameras."""
    return StreamSpec(
        name=name,
        rate_hz=20.0,
        max_steps=max_steps,
        columns=(
            Column("action", "float32", (3,)),
            Column("observations/count", "int64"),
            Column("observations/grid", "uint8", (2, 3)),
            Column("observations/maybe", "float64", (2,), allow_nan=True),
            Column("observations/touch", "bool"),
        ),
        cameras=tuple(Camera(f"camera{number}", HEIGHT, WIDTH) for number in range(cameras)),
    )


@dataclass(frozen=True)
class CountedEpisode:
    """What index `index` of a stream must look like, to the byte."""

    spec: StreamSpec
    index: int
    outcome: int
    steps: int
    seed: int
    columns: dict[str, NDArray[Any]]
    images: dict[str, list[NDArray[np.uint8]]]
    frames: dict[str, list[bytes]]
    documents: dict[str, bytes] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attribute document."""
        named = {name: hashlib.sha256(data).hexdigest() for name, data in self.documents.items()}
        made = {"success": self.outcome == SUCCESS, "steps": self.steps, "counted": f"#{self.index}", "seed": self.seed}
        return {**made, **({"why": "counted out"} if self.outcome == VOID else {"documents": named})}

    # --- for tests of the store: what a producer would send -----------------------------------------------------

    def messages(self) -> list[list[bytes]]:
        """The frames of each step."""
        if self.outcome == VOID or not self.frames:
            return []
        return [[self.frames[camera.name][step] for camera in self.spec.cameras] for step in range(self.steps)]

    def payload(self) -> list[bytes]:
        """The payload of the End."""
        columns = [self.columns[column.name].tobytes() for column in self.spec.columns] if self.outcome != VOID else []
        return [json.dumps(self.attributes).encode(), *columns]

    def end(self, **changes: Any) -> End:
        """The End of this episode, with its checksum calculated here."""
        fields: dict[str, Any] = {
            "session": 0,
            "index": self.index,
            "outcome": Outcome(self.outcome),
            "steps": 0 if self.outcome == VOID else self.steps,
            "seed": self.seed,
            "began_ns": 1_000 + self.index,
            "ended_ns": 2_000 + self.index,
            "checksum": self._checksum(),
            "documents": () if self.outcome == VOID else tuple(self.attributes["documents"].values()),
        }
        return End(**{**fields, **changes})

    def _checksum(self) -> int:
        digest = xxhash.xxh3_64()
        if self.outcome != VOID:
            for frames in self.frames.values():
                digest.update(np.array([xxhash.xxh3_64_intdigest(f) % 2**32 for f in frames], "<u4").tobytes())
        for part in [*self.payload()[1:], self.payload()[0]]:
            digest.update(part)
        return digest.intdigest()


@lru_cache(4096)
def counted_episode(spec: StreamSpec, index: int) -> CountedEpisode:
    """Every seventh index is VOID, every fifth a FAILURE, the others succeed."""
    rng = np.random.default_rng((zlib.crc32(spec.name.encode()), index))
    outcome = VOID if index % 7 == 4 else FAILURE if index % 5 == 3 else SUCCESS
    steps = int(rng.integers(1, min(12, spec.max_steps) + 1))
    columns: dict[str, NDArray[Any]] = {
        "action": rng.normal(size=(steps, 3)).astype("<f4"),
        "observations/count": index * 1_000_000 + np.arange(steps, dtype="<i8"),
        "observations/grid": rng.integers(0, 256, (steps, 2, 3)).astype("u1"),
        "observations/maybe": np.where(rng.random((steps, 2)) < 0.5, np.nan, rng.normal(size=(steps, 2))).astype("<f8"),
        "observations/touch": rng.random(steps) < 0.5,
    }
    images = {camera.name: [_image(rng) for _ in range(steps)] for camera in spec.cameras}
    return CountedEpisode(
        spec=spec,
        index=index,
        outcome=outcome,
        steps=steps,
        seed=index * 31 + 7,
        columns=columns,
        images=images,
        frames={name: [encode(image) for image in shown] for name, shown in images.items()},
        documents={"model": b"<model>" + spec.name.encode() * 20 + bytes([index % 3]) + b"</model>"},
    )


# What an index of a stream must look like.
MakeEpisode = Callable[[StreamSpec, int], CountedEpisode]


def _image(rng: np.random.Generator) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def publish(
    publisher: Publisher, index: int, pause: Callable[[], None] = lambda: None, make: MakeEpisode = counted_episode
) -> None:
    """Record the episode of an index through the publishing API; every other one gives images, if it has any."""
    made = make(publisher.spec, index)
    with publisher.episode(index) as episode:
        for step in range(made.steps):
            pause()
            columns = {name: values[step] for name, values in made.columns.items()}
            source: Any = made.frames if index % 2 or not made.images else made.images
            episode.step(columns, {name: shown[step] for name, shown in source.items()})
        if made.outcome == VOID:
            episode.fail("counted out", {"counted": f"#{index}"}, made.seed)
        else:
            episode.finish(made.outcome == SUCCESS, {"counted": f"#{index}"}, made.seed, made.documents)


# --- the reader ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """One committed row as found on disk."""

    index: int
    outcome: int
    shard: str
    number: int
    producer: str


class CheckingReader:
    """Reads every shard of a stream with raw h5py and compares all of it with what the indices must look like."""

    def __init__(self, root: Path, spec: StreamSpec | None = None, make: MakeEpisode = counted_episode) -> None:
        self.spec, self._make = spec or counting_spec(), make
        self.folder = root / self.spec.name
        self.stored: dict[int, Stored] = {}
        for path in self.paths():
            self._check_shard(path)

    def paths(self) -> list[Path]:
        """The shards in order."""
        return sorted(path for path in self.folder.glob("*.h5") if re.fullmatch(r"\d{6}\.h5", path.name))

    @property
    def indices(self) -> list[int]:
        """All committed indices, sorted."""
        return sorted(self.stored)

    @property
    def successes(self) -> list[int]:
        """Those that succeeded, sorted."""
        return [index for index in self.indices if self.stored[index].outcome == SUCCESS]

    def _check_shard(self, path: Path) -> None:
        with h5py.File(path, "r", locking=False) as file:
            assert file.attrs["format_version"] == 1, path
            assert json.loads(bytes(file.attrs["stream_spec"]))["name"] == self.spec.name, path
            shard = _Shard(file)
            used: list[tuple[int, int, str]] = []
            next_step = last_end = 0
            for number, row in enumerate(shard.rows):
                where = f"{path.name} row {number} index {row['index']}"
                assert row["first_step"] == next_step, where
                assert last_end <= row["blob_end"] <= shard.blob_bytes, where
                assert row["group_first"] <= number, where
                next_step += int(row["steps"])
                last_end = int(row["blob_end"])
                used += self._check_episode(shard, row, where)
                index = int(row["index"])
                again = self.stored.get(index)
                assert again is None, f"{where}: index is committed twice, also in {again}"
                producer = bytes(row["producer"]).decode()
                self.stored[index] = Stored(index, int(row["outcome"]), path.name, number, producer)
            used.sort()
            for (_, end, one), (start, _, other) in pairwise(used):
                assert end <= start, f"{path}: blob bytes of {one} and {other} overlap"

    def _check_episode(self, shard: _Shard, row: np.void, where: str) -> list[tuple[int, int, str]]:
        made = self._make(self.spec, int(row["index"]))
        assert row["outcome"] == made.outcome, where
        assert row["steps"] == (0 if made.outcome == VOID else made.steps), where
        assert row["seed"] == made.seed, where
        assert 0 < row["began_ns"] <= row["ended_ns"], where
        steps = slice(int(row["first_step"]), int(row["first_step"]) + int(row["steps"]))
        digest = xxhash.xxh3_64()
        used = []
        for name, frames in made.frames.items():
            table = shard.steps[f"images/{name}"][steps]
            for step, place in enumerate(table):
                data = shard.bytes(int(place["offset"]), int(place["size"]))
                assert data == frames[step], f"{where}: {name}, step {step} is another frame"
                assert xxhash.xxh3_64_intdigest(data) % 2**32 == place["checksum"], f"{where}: {name}, step {step}"
                used.append((int(place["offset"]), int(place["offset"] + place["size"]), where))
            digest.update(np.ascontiguousarray(table["checksum"]).tobytes())
        frames_bytes = sum(end - start for start, end, _ in used)
        assert row["frames_bytes"] == frames_bytes, where
        if made.outcome != VOID:
            for name, values in made.columns.items():
                found = shard.steps[name][steps]
                assert found.dtype == values.dtype, (where, name, found.dtype)
                np.testing.assert_array_equal(found, values, err_msg=f"{where}: {name}")
                digest.update(found.tobytes())
        start, size = int(row["attributes_offset"]), int(row["attributes_size"])
        attributes = shard.bytes(start, size)
        digest.update(attributes)
        used.append((start, start + size, f"attributes of {where}"))
        assert json.loads(attributes) == made.attributes, f"{where}: {attributes!r}"
        assert digest.intdigest() == row["data_checksum"], f"{where}: data checksum"
        for name, sha256 in made.attributes.get("documents", {}).items():
            assert sha256 in shard.documents, f"{where}: document {name} is not in the shard"
            assert shard.bytes(*shard.documents[sha256]) == made.documents[name], f"{where}: document {name}"
        assert max(end for _, end, _ in used) <= row["blob_end"], where
        return used


class _Shard:
    """What the sound rows of an open shard say is in use, read at once."""

    def __init__(self, file: h5py.File) -> None:
        self._name = file.filename
        rows = file["episodes"][:]
        self.rows = rows[: next((n for n, row in enumerate(rows) if not _is_sound(row, n)), len(rows))]
        named = [row for n, row in enumerate(file["documents"][:]) if _is_sound(row, n)]
        self.documents = {bytes(row["sha256"]).decode(): (int(row["offset"]), int(row["size"])) for row in named}
        self.blob_bytes = len(file["blob"])
        self._blob = file["blob"][: max((int(row["blob_end"]) for row in self.rows), default=0)].tobytes()
        used = sum(int(row["steps"]) for row in self.rows)
        self.steps: dict[str, NDArray[Any]] = {}
        file["steps"].visititems(
            lambda name, item: self.steps.update({name: item[:used]}) if isinstance(item, h5py.Dataset) else None
        )

    def bytes(self, offset: int, size: int) -> bytes:
        """Bytes of the blob."""
        assert 0 <= offset <= offset + size <= len(self._blob), (self._name, offset, size)
        return self._blob[offset : offset + size]


def _is_sound(row: np.void, number: int) -> bool:
    data = row.tobytes()
    return xxhash.xxh3_64_intdigest(data[:-8], seed=number) == int.from_bytes(data[-8:], "little")


def first_successes(spec: StreamSpec, count: int) -> Sequence[int]:
    """The first `count` indices that succeed."""
    found: list[int] = []
    index = 0
    while len(found) < count:
        if counted_episode(spec, index).outcome == SUCCESS:
            found.append(index)
        index += 1
    return found
