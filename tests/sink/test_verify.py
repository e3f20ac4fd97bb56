"""`headrace verify`: every kind of damage is found, with its place; nothing that is whole is called damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from producers.publisher import Publisher
from protocol.errors import DatasetError
from protocol.layout import DOCUMENT, EPISODE, FRAME
from protocol.messages import Goal, Outcome
from protocol.spec import Column
from sink.content_audit import jpeg_size
from sink.daemon import Sink, SinkConfig
from sink.fault import Fault
from sink.pages import PAGE
from sink.verify import main, verify
from tests.datasets import MODEL, SPEC, Recorded, picture, write_dataset

EPISODES = 8
STEPS = 6
FIRST_INDEX = 10
# Bytes of a shard's blob in which about three episodes fit.
SMALL_SHARD = 1 << 15


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original") / "data"
    outcomes = {2: Outcome.VOID, 5: Outcome.FAILURE}
    write_dataset(root, [Recorded(FIRST_INDEX + n, STEPS, outcomes.get(n, Outcome.SUCCESS)) for n in range(EPISODES)])
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "data"))


class Shard:
    """A shard's bytes, through h5py's offsets."""

    def __init__(self, root: Path, number: int = 0) -> None:
        self.path = root / SPEC.name / f"{number:06d}.h5"
        with h5py.File(self.path, "r") as file:
            self.rows = file["episodes"][:]
            self.tables = {camera.name: file[f"steps/images/{camera.name}"][:] for camera in SPEC.cameras}
            self.documents = file["documents"][:]
            names = ["episodes", "documents", "seal", "blob", *(f"steps/{c.name}" for c in SPEC.columns)]
            names += [f"steps/images/{c.name}" for c in SPEC.cameras]
            self.offsets = {name: file[name].id.get_offset() for name in names}

    def flip(self, name: str, offset: int) -> None:
        """Change one byte of a dataset."""
        data = bytearray(self.path.read_bytes())
        data[self.offsets[name] + offset] ^= 0x10
        self.path.write_bytes(data)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Overwrite bytes of a dataset."""
        with open(self.path, "r+b") as file:
            file.seek(self.offsets[name] + offset)
            file.write(data)

    def step(self, row: int, step: int) -> int:
        """Row of a step in the step datasets."""
        return int(self.rows["first_step"][row]) + step


def only_fault(root: Path) -> Fault:
    faults = verify(root).faults
    assert len(faults) == 1, [str(fault) for fault in faults]
    return faults[0]


@pytest.mark.usefixtures("no_leaks")
def test_a_whole_dataset(original: Path) -> None:
    report = verify(original, jobs=2)
    assert report.faults == []
    assert report.notes == []
    assert (report.episodes, report.frames) == (EPISODES, (EPISODES - 1) * STEPS * 2)
    assert report.summary.startswith("whole: 8 episodes, 84 frames, 1 stream, 1 shard;")


def test_nothing_is_changed(original: Path) -> None:
    def state() -> list[tuple[str, str, int]]:
        files = sorted(path for path in original.rglob("*") if path.is_file())
        return [(str(p), hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files]

    before = state()
    verify(original)
    assert state() == before


@pytest.mark.parametrize("row", [0, 3, EPISODES - 1])
@pytest.mark.parametrize("field", ["index", "blob_end", "producer", "data_checksum", "row_checksum"])
def test_a_damaged_row(root: Path, row: int, field: str) -> None:
    Shard(root).flip("episodes", row * EPISODE.itemsize + EPISODE.fields[field][1])
    fault = only_fault(root)
    assert fault.row == row
    assert "the row differs from its checksum" in fault.what


def test_a_row_that_is_gone(root: Path) -> None:
    Shard(root).write("episodes", 4 * EPISODE.itemsize, bytes(EPISODE.itemsize))
    fault = only_fault(root)
    assert fault.row == 4
    assert "the row is gone" in fault.what


@pytest.mark.parametrize(
    ("field", "said"), [("offset", "frame"), ("size", "frame"), ("checksum", "frame table: the checksum is wrong")]
)
def test_a_damaged_entry_of_a_frame_table(root: Path, field: str, said: str) -> None:
    shard = Shard(root)
    place = shard.step(row=4, step=2) * FRAME.itemsize + FRAME.fields[field][1]
    shard.flip("steps/images/wrist", place)
    faults = verify(root).faults
    assert any(said in f.what and (f.row, f.camera, f.step) == (4, "wrist", 2) for f in faults), faults
    assert {fault.index for fault in faults} <= {None, FIRST_INDEX + 3, FIRST_INDEX + 4}


def test_a_damaged_frame(root: Path) -> None:
    shard = Shard(root)
    shard.flip("blob", int(shard.tables["front"]["offset"][shard.step(row=1, step=3)]) + 300)
    fault = only_fault(root)
    assert (fault.row, fault.index, fault.camera, fault.step) == (1, FIRST_INDEX + 1, "front", 3)
    assert str(fault) == f"{shard.path}: row 1, index 11, camera 'front', step 3: the frame differs from its checksum"


@pytest.mark.parametrize("column", SPEC.columns, ids=lambda column: column.name)
def test_a_damaged_column(root: Path, column: Column) -> None:
    shard = Shard(root)
    name, row_bytes = column.name, column.row_bytes
    shard.flip(f"steps/{name}", shard.step(row=6, step=1) * row_bytes + 2)
    fault = only_fault(root)
    assert (fault.row, fault.index) == (6, FIRST_INDEX + 6)
    assert f"steps/{name}" in fault.what


@pytest.mark.parametrize(("offset", "said"), [(0, "no JSON object"), (40, "or in its attributes")])
def test_damaged_attributes(root: Path, offset: int, said: str) -> None:
    shard = Shard(root)
    shard.flip("blob", int(shard.rows["attributes_offset"][2]) + offset)
    fault = only_fault(root)
    assert (fault.row, fault.index) == (2, FIRST_INDEX + 2)
    assert said in fault.what


def test_a_damaged_document(root: Path) -> None:
    shard = Shard(root)
    shard.flip("blob", int(shard.documents["offset"][0]) + 5)
    fault = only_fault(root)
    assert f"documents, row 0: expected the SHA-256 {hashlib.sha256(MODEL).hexdigest()}" in fault.what


def test_a_damaged_row_of_documents(root: Path) -> None:
    Shard(root).flip("documents", DOCUMENT.fields["offset"][1])
    faults = verify(root).faults
    assert "documents, row 0: it differs from its checksum" in faults[0].what
    assert {fault.row for fault in faults[1:]} == set(range(EPISODES))


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_an_episode_can_change_unseen(root: Path, seed: int) -> None:
    """Any single bit, anywhere in what the rows claim."""
    shard = Shard(root)
    steps = int((shard.rows["first_step"] + shard.rows["steps"]).max())
    claimed = [(shard.offsets["episodes"], EPISODES * EPISODE.itemsize), (shard.offsets["documents"], 88)]
    start = 0
    for end in shard.rows["blob_end"].tolist():
        claimed.append((shard.offsets["blob"] + start, end - start))
        start = -(-end // PAGE) * PAGE  # one episode a commit: what fills the last page up belongs to none
    claimed += [(shard.offsets[f"steps/{c.name}"], steps * c.row_bytes) for c in SPEC.columns]
    claimed += [(shard.offsets[f"steps/images/{c.name}"], steps * FRAME.itemsize) for c in SPEC.cameras]
    places = np.concatenate([np.arange(start, start + size) for start, size in claimed])
    random = np.random.default_rng(seed)
    with open(shard.path, "r+b", buffering=0) as file:
        for place in random.choice(places, 60).tolist():
            byte = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << int(random.integers(8))]), place)
            assert verify(root).faults, f"byte {place} of the file"
            os.pwrite(file.fileno(), byte, place)
    assert not verify(root).faults


# --- crashes are no damage --------------------------------------------------------------------------------------


def test_a_torn_row_is_harmless(tmp_path: Path) -> None:
    """Row 9 straddles two sectors; a crash left the first of them only."""
    root = tmp_path / "data"
    write_dataset(root, [Recorded(index) for index in range(9)])
    start = 9 * EPISODE.itemsize
    assert start // 512 < (start + EPISODE.itemsize) // 512
    Shard(root).write("episodes", start, b"\x17" * (512 - start % 512))
    report = verify(root)
    assert report.faults == []
    assert [(note.row, "harmless" in note.what) for note in report.notes] == [(9, True)]


def test_a_torn_group_is_harmless(tmp_path: Path) -> None:
    """One group of eight rows, of which the second sector never reached the disk."""
    root = tmp_path / "data"
    write_dataset(root, [Recorded(index) for index in range(8)], group=8)
    Shard(root).write("episodes", 512, bytes(512))
    report = verify(root)
    assert report.faults == []
    assert report.episodes == 3
    assert [note.row for note in report.notes] == [3]
    assert "never acknowledged, harmless" in report.notes[0].what


# --- the file as a whole ----------------------------------------------------------------------------------------


def test_a_truncated_file(root: Path) -> None:
    path = Shard(root).path
    os.truncate(path, path.stat().st_size - 1000)
    fault = only_fault(root)
    assert fault.path == path
    assert "truncated" in fault.what


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"cameras"', b'"camerax"', "stream_spec"),
        (b'"test/count"', b'"test/mount"', "it holds stream 'test/mount'"),
        (b'"height":48', b'"height":47', "expected a JPEG of 47×64 pixels, found 48×64"),
        (b"\x89HDF", b"\x89HDG", "cannot be read as a shard"),
    ],
)
def test_damaged_metadata(root: Path, old: bytes, new: bytes, said: str) -> None:
    path = Shard(root).path
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    assert any(said in str(fault) for fault in verify(root).faults)


def test_a_copied_shard(root: Path) -> None:
    shard = Shard(root)
    shutil.copy(shard.path, shard.path.with_name("000001.h5"))
    faults = verify(root).faults
    assert "it is shard 0 by its attribute" in faults[0].what
    doubled = [fault for fault in faults if "in the dataset already" in fault.what]
    assert [fault.index for fault in doubled] == list(range(FIRST_INDEX, FIRST_INDEX + EPISODES))
    assert doubled[3].row == 3
    assert f"{shard.path}, row 3" in doubled[3].what


def test_a_shard_of_another_dataset(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", [Recorded(99)])
    shutil.copy(Shard(tmp_path / "other").path, Shard(root).path)
    assert "it belongs to dataset" in only_fault(root).what


def test_many_shards(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_dataset(root, [Recorded(index) for index in range(12)], shard_bytes=SMALL_SHARD)
    shards = sorted((root / SPEC.name).glob("*.h5"))
    assert len(shards) > 2
    report = verify(root, jobs=2)
    assert report.faults == []
    assert (report.episodes, report.shards) == (12, len(shards))
    Shard(root).flip("seal", 0)
    assert "the seal differs from its checksum" in only_fault(root).what
    Shard(root).flip("seal", 0)
    last = len(Shard(root).rows[Shard(root).rows["blob_end"] > 0]) - 1
    Shard(root).write("episodes", last * EPISODE.itemsize, bytes(EPISODE.itemsize))
    assert (only_fault(root).row, only_fault(root).what[:15]) == (last, "the row is gone")
    shards[1].rename(tmp_path / "away.h5")
    assert any("shards [1] are not here" in note.what for note in verify(root).notes)


# --- beside a sink ----------------------------------------------------------------------------------------------


def test_beside_a_running_sink(tmp_path: Path) -> None:
    sink = Sink(SinkConfig(tmp_path / "data", "tcp://127.0.0.1:0", shard_bytes=1 << 17))
    serving = threading.Thread(target=sink.run)
    serving.start()
    producing = threading.Thread(target=_produce, args=(sink.endpoint, 60))
    producing.start()
    seen = []
    while producing.is_alive():
        report = verify(tmp_path / "data")
        assert report.faults == []
        seen.append(report.episodes)
    producing.join()
    sink.stop()
    serving.join()
    assert seen == sorted(seen)
    assert verify(tmp_path / "data").episodes == 60


def _produce(endpoint: str, count: int) -> None:
    with Publisher(endpoint, SPEC, Goal(end=count)) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                for step in range(STEPS):
                    columns = {"action": [index, step], "observations/qpos": [index, step, 0]}
                    episode.step(columns, {camera.name: picture(camera, index, step) for camera in SPEC.cameras})
                if index % 7 == 3:
                    episode.fail("no luck")
                else:
                    episode.finish(True, documents={"model": MODEL})


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root)]) == 0
    assert capsys.readouterr().out.startswith("whole: 8 episodes")
    shard = Shard(root)
    shard.flip("blob", int(shard.tables["front"]["offset"][0]) + 300)
    assert main([str(root), "--jobs", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{shard.path}: row 0, index 10, camera 'front', step 0: the frame differs from its checksum"
    assert lines[1].startswith("1 fault in 8 episodes")
    assert main([str(root), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["whole"], answer["faults"][0]["step"]) == (False, 0)


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is no dataset: expected dataset\.json"):
        verify(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"PNG", b"\xff\xd8", b"\xff\xd8\xff\xc0\0", b"\xff\xd8\xff\xe0\xff\xff" + bytes(30)]
)
def test_what_is_no_jpeg_has_no_size(data: bytes) -> None:
    assert jpeg_size(memoryview(data)) is None
