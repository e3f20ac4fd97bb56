"""`headrace pack`: the same dataset, smaller, for every reader; and nothing is lost, whatever happens on the way."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import protocol
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, CorruptionError, DatasetError, LockedError
from protocol.flags import FLAGS_NAME
from protocol.jpeg import decode
from protocol.layout import ShardLayout
from protocol.shard_view import ShardView
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.export.episode import Reader
from sink.export.plan import Entry
from sink.flagging import Word, add_flag
from sink.inspect import summarise
from sink.lock import DirectoryLock
from sink.mirror_dataset import Mirror
from sink.pack.__main__ import main
from sink.pack.dataset import PACK_LOCK_NAME, PackReport, Plan, finish, pack
from sink.pack.encoder import Quality, psnr_db
from sink.stream_store import StreamStore
from sink.verify import verify
from tests.datasets import SPEC, picture
from tests.pack.conftest import STEPS
from tests.processes import Process, wait_until

CAMERAS = {camera.name: camera for camera in SPEC.cameras}
FULL = ("000000.h5", "000001.h5")


def run(root: Path, out: Path | None = None, delete: bool = False, least_db: float = 38.0) -> PackReport:
    return pack(Plan(root, out, delete, Quality(least_db=least_db), jobs=2))


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / SPEC.name).iterdir())}


def by_index(root: Path) -> Iterator[tuple[int, dict[str, Any], dict[str, NDArray[np.uint8]]]]:
    """(index, all but frames, frames by camera) of every episode."""
    with DatasetView(root) as view:
        for episode in view.new_episodes():
            steps = range(episode.steps)
            images = {name: np.array([episode.image(name, step) for step in steps]) for name in CAMERAS}
            names = ("outcome", "steps", "seed", "first_step", "committed_ns", "producer", "group_first")
            attributes = episode.attributes()
            document = episode.shard.document(attributes["documents"]["model"])
            columns = {column.name: episode.column(column.name).tobytes() for column in SPEC.columns}
            row = {name: episode.row[name].item() for name in names}
            episode.check()
            yield episode.index, {**row, **columns, "attributes": attributes, "document": document}, images


def assert_same(root: Path, packed: Path) -> None:
    """All but frames is equal, and every frame is close to the JPEG's and to the picture that it was made of."""
    mine, theirs = list(by_index(root)), list(by_index(packed))
    assert len(mine) == len(theirs) > 0
    for (index, rest, images), (other, same, decoded) in zip(mine, theirs, strict=True):
        assert (index, rest) == (other, same)
        for name, camera in CAMERAS.items():
            assert len(images[name]) == len(decoded[name]) == rest["steps"]
            for step, (image, original) in enumerate(zip(decoded[name], images[name], strict=True)):
                assert psnr_db(image, original) >= 38, (index, name, step)
                # Upright, not mirrored, colours in their places, and not the neighbour's frame.
                assert np.abs(image.astype(int) - picture(camera, index, step)).mean() < 6, (index, name, step)


# --- a copy -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "data"
    report = run(written, out)
    assert [path.name for path in report.packed] == list(FULL)
    assert [path.name for path in report.unsealed] == ["000002.h5"]
    assert (report.failed, report.kept, report.deleted) == ({}, [], [])
    with DatasetView(out) as view:
        assert len(report.psnr_db) == 2 * sum(episode.steps for episode in view.new_episodes())
    return out


def sealed_only(root: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(root, tmp_path / "sealed"))
    (copy / SPEC.name / "000002.h5").unlink()
    return copy


def test_a_packed_copy_is_the_same_dataset_and_smaller(written: Path, packed: Path, tmp_path: Path) -> None:
    before = shards(written)
    sealed = sealed_only(written, tmp_path)
    assert_same(sealed, packed)
    report = verify(packed)
    assert (report.faults, report.notes, report.episodes) == ([], [], 7)
    assert shards(written) == before, "the source is only read"
    (summary,), (was,) = summarise(packed), summarise(sealed)
    assert [shard.packing for shard in summary.shards] == ["h264", "h264"]
    assert summary.stored_bytes * 2.5 < was.stored_bytes


def test_any_order_gives_the_same_frames(packed: Path) -> None:
    in_order = {index: images for index, _, images in by_index(packed)}
    rng = np.random.default_rng(0)
    with DatasetView(packed) as view:
        episodes = [episode for episode in view.new_episodes() if episode.steps]
        places = [(e, name, step) for e in episodes for name in CAMERAS for step in range(e.steps)]
        assert {step for _, _, step in places} == set(range(STEPS + 1))
        for number in rng.permutation(len(places)).tolist():
            episode, name, step = places[number]
            assert np.array_equal(episode.image(name, step), in_order[episode.index][name][step])


def test_the_example_of_the_specification_reads_it(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(protocol.__file__).parent / "SPEC.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert "protocol" not in example
    path = packed / SPEC.name / FULL[0]
    with ShardView(path) as shard:
        episode = shard.episode(1)
        for step in (0, 1, 15, 16, 17, 19):
            monkeypatch.setattr(sys, "argv", ["example.py", str(path), str(episode.index), "front", str(step)])
            found: dict[str, Any] = {}
            exec(example, found)
            assert np.array_equal(found["image"], episode.image("front", step)), step


def test_jpegs_are_not_there_any_more(packed: Path) -> None:
    with ShardView(packed / SPEC.name / FULL[0]) as shard, pytest.raises(DatasetError, match=r"packed.* image\(\)"):
        shard.episode(0).frame("front", 0)


def test_a_packed_dataset_is_mirrored_as_it_is(packed: Path, tmp_path: Path) -> None:
    with Mirror(packed, tmp_path / "mirror", 1) as mirror:
        mirror.pull()
    assert shards(tmp_path / "mirror") == shards(packed)
    assert verify(tmp_path / "mirror").faults == []


def test_packing_again_is_quick_and_changes_nothing(written: Path, packed: Path) -> None:
    before = shards(packed)
    report = run(written, packed)
    assert (report.packed, [path.name for path in report.there]) == ([], list(FULL))
    assert shards(packed) == before


def test_a_finished_collection_is_packed_to_the_end(data: Path, tmp_path: Path) -> None:
    lock = DirectoryLock(data)
    try:
        with pytest.raises(LockedError):
            finish(data)
    finally:
        lock.release()
    assert main([str(data), "--out", str(tmp_path / "out"), "--finished", "--jobs", "2"]) == 0
    assert_same(data, tmp_path / "out")
    assert verify(data).faults == []


def test_flags_and_exports_go_along(data: Path, tmp_path: Path) -> None:
    add_flag(data, SPEC.name, Word("discard", (5,), "dropped it"))
    out = tmp_path / "out"
    assert run(data, out).failed == {}
    name = Path(SPEC.name) / FLAGS_NAME
    assert (out / name).read_bytes() == (data / name).read_bytes()
    entry = Entry(0, f"{SPEC.name}/{FULL[0]}", 1, 1, STEPS + 1, "success")
    with Reader(data) as plain, Reader(out) as packed:
        before, after = plain.episode(entry), packed.episode(entry)
        into = np.empty((48, 64, 3), np.uint8)
        assert after.image("front", 7, into) is into
        assert psnr_db(into, before.image("front", 7)) >= 38
        assert psnr_db(decode(after.jpeg("front", 7)), before.image("front", 7)) >= 36


# --- damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path, name: str, place: int) -> None:
    offset = ShardLayout.read(path).offsets[name] + place
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def test_a_damaged_packet_is_found_and_named(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "root"))
    path = root / SPEC.name / FULL[0]
    with ShardView(path) as shard:
        place = shard.episode(1).frame_table("wrist")[4]
    flip(path, "blob", int(place["offset"]) + int(place["size"]) - 3)
    (fault,) = verify(root).faults
    assert (fault.row, fault.camera, fault.step) == (1, "wrist", 4)
    with ShardView(path) as shard:
        with pytest.raises(CorruptionError, match="differs from its checksum"):
            shard.episode(1).image("wrist", 4)
        assert shard.episode(1).image("wrist", 9).shape == (32, 32, 3), "its neighbours can be read"


def test_a_damaged_attribute_is_found(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "root"))
    path = root / SPEC.name / FULL[0]
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"gop":16', b'"gop":15'))
    assert path.read_bytes() != content
    with pytest.raises(CorruptionError, match="metadata_checksum"):
        ShardView(path)
    assert any("metadata_checksum" in fault.what for fault in verify(root).faults)


def test_a_damaged_shard_is_not_packed_and_the_others_are(data: Path) -> None:
    with ShardView(data / SPEC.name / FULL[0]) as shard:
        place = int(shard.episode(0).frame_table("front")[3]["offset"])
    flip(data / SPEC.name / FULL[0], "blob", place + 300)
    before = (data / SPEC.name / FULL[0]).read_bytes()
    report = run(data, None, delete=True)
    assert [path.name for path in report.packed] == [FULL[1]]
    assert "camera 'front', step 3" in report.failed[data / SPEC.name / FULL[0]]
    assert (data / SPEC.name / FULL[0]).read_bytes() == before


def test_frames_that_cannot_be_good_enough_leave_the_original(data: Path) -> None:
    before = shards(data)
    report = run(data, None, delete=True, least_db=90.0)
    assert all("leaves frames below 90 dB" in why for why in report.failed.values())
    assert len(report.failed) == 2
    after = {name: content for name, content in shards(data).items() if name in before}
    assert after == before


# --- in place ---------------------------------------------------------------------------------------------------------


def test_in_place_originals_go_only_on_request(data: Path, written: Path) -> None:
    first = shards(data)
    report = run(data)
    assert [path.name for path in report.kept] == [f"{name}.original" for name in FULL]
    found = shards(data)
    assert [found[f"{name}.original"] for name in FULL] == [first[name] for name in FULL]
    assert_same(written, data)
    again = run(data, None, delete=True)
    assert ([path.name for path in again.deleted], again.packed) == ([f"{name}.original" for name in FULL], [])
    assert set(shards(data)) == {*FULL, "000002.h5"}
    assert_same(written, data)
    assert verify(data).faults == []


def test_an_original_that_differs_is_not_deleted(data: Path) -> None:
    run(data)
    original = data / SPEC.name / f"{FULL[0]}.original"
    flip(original, "steps/action", 5)
    report = run(data, None, delete=True)
    assert "column 'action'" in report.failed[data / SPEC.name / FULL[0]]
    assert original.exists()
    assert [path.name for path in report.deleted] == [f"{FULL[1]}.original"]


def test_another_file_in_the_place_of_an_original_is_left_alone(data: Path) -> None:
    other = data / SPEC.name / f"{FULL[0]}.original"
    other.write_bytes(b"the only copy of something")
    report = run(data, None, delete=True)
    assert "is there already, and is not" in report.failed[data / SPEC.name / FULL[0]]
    assert other.read_bytes() == b"the only copy of something"
    assert [path.name for path in report.packed] == [FULL[1]]
    assert not list((data / SPEC.name).glob("*.packing"))


def test_readers_go_on_while_shards_are_exchanged(data: Path) -> None:
    with DatasetView(data) as view:
        before = {episode.index: episode for episode in view.new_episodes()}
        frames = {index: episode.image("front", 0) for index, episode in before.items() if episode.steps}
        run(data, None, delete=True)
        assert list(view.new_episodes()) == []
        assert all(np.array_equal(before[index].image("front", 0), image) for index, image in frames.items())
    with DatasetView(data) as view:
        assert {episode.index for episode in view.new_episodes()} == set(before)
        assert [shard.packing is not None for shard in view.shards.values()] == [True, True, False]
    shutil.copy(data / SPEC.name / FULL[0], data / "kept")
    with DatasetView(data) as view:
        list(view.new_episodes())
        (data / SPEC.name / FULL[1]).unlink()
        with pytest.raises(DatasetError, match="was removed or replaced"):
            list(view.new_episodes())


def test_a_sink_goes_on_behind_packed_shards(data: Path) -> None:
    run(data, None, delete=True)
    before = shards(data)
    with ThreadPoolExecutor(1) as pool:
        store = StreamStore(data / SPEC.name, SPEC, 112 << 10, dataset_uuid(data), Disk(), pool)
        assert store.committed.intervals() == [(0, 8)]
        assert 2 not in store.successes
        assert 3 not in store.successes
        assert store.active.layout.number == 2
        store.close()
    assert {name: shards(data)[name] for name in FULL} == {name: before[name] for name in FULL}


def test_killed_at_any_moment_it_is_whole_and_goes_on(data: Path, written: Path) -> None:
    folder = data / SPEC.name
    command = ("-m", "deploy.main", "pack", data, "--replace", "--delete-originals", "--jobs", "1")
    for name in FULL:
        with Process(*command) as child:
            wait_until(lambda name=name: (folder / f"{name}.packing").exists(), "a draft")  # type: ignore[misc]
            child.kill()
        assert verify(data).faults == []
        assert_same(written, data)
        (folder / f"{name}.original").unlink(missing_ok=True)
        (folder / f"{name}.original").hardlink_to(folder / name)  # killed between the link and the rename
    with Process(*command) as last:
        assert last.wait() == 0
    assert set(shards(data)) == {*FULL, "000002.h5"}
    assert_same(written, data)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_two_at_once_are_refused(data: Path) -> None:
    lock = DirectoryLock(data, name=PACK_LOCK_NAME)
    try:
        with pytest.raises(LockedError, match="cannot be written now"):
            run(data)
    finally:
        lock.release()


def test_a_copy_of_another_history_is_refused(packed: Path, data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    shutil.copy(out / SPEC.name / FULL[1], out / SPEC.name / FULL[0])
    report = run(data, out)
    assert "has other episodes" in report.failed[data / SPEC.name / FULL[0]]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give one of --out"),
        (["--out", "x", "--replace"], "give one of --out"),
        (["--out", "x", "--delete-originals"], "is for --replace"),
        (["--replace", "--gop", "19"], "--gop 19"),
        (["--replace", "--min-psnr", "0"], "--min-psnr 0"),
    ],
)
def test_bad_flags_are_refused(written: Path, words: list[str], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        main([str(written), *words])


def test_the_command_tells_what_it_did(written: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written), "--out", str(packed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(path).name for path in told["there"]] == list(FULL)
    assert main([str(written), "--out", str(packed)]) == 0
    text = capsys.readouterr().out
    assert "it may still grow (--finished if not)" in text
    assert "2 packed before" in text
