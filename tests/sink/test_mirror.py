"""`headrace mirror`: committed episodes only, each checked; a dataset at every instant; the source is never touched."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.publisher import Publisher
from protocol.checksum import Buffer
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, CorruptionError, DatasetError, LockedError
from protocol.flags import FLAGS_NAME
from protocol.layout import EPISODE, ShardLayout
from protocol.messages import Goal
from protocol.spec import StreamSpec
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.flagging import Word, add_flag
from sink.lock import DirectoryLock
from sink.mirror import main
from sink.mirror_dataset import Mirror
from sink.mirror_shard import Watch
from sink.verify import verify
from tests.datasets import SPEC as PICTURES
from tests.datasets import Recorded, write_dataset
from tests.fakes import CheckingReader, counting_spec, publish
from tests.processes import Process, SinkProcess, wait_until
from tests.sink.bench import Bench
from tests.sink.crash_image import KINDS, History
from tests.sink.crash_scenarios import SMALL, SPEC, World
from tests.sink.recording_disk import KilledError, RecordingDisk, UnsyncedDisk

pytestmark = pytest.mark.usefixtures("no_leaks")
IMAGES = int(os.environ.get("HEADRACE_SOAK_MIRROR_IMAGES", "24"))
# Of these one in so many is also opened by a sink that goes on.
SINKS = 4


def state(root: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file of a directory: when it was last written, and what is in it."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


def pull(source: Path, mirror: Path, disk: Disk | None = None) -> int:
    """One run."""
    with Mirror(source, mirror, 1, disk or UnsyncedDisk()) as made:
        return made.pull()


def assert_same(source: Path, mirror: Path, spec: StreamSpec = SPEC) -> None:
    """The mirror has every committed byte of the source, and no fault."""
    assert CheckingReader(mirror, spec).stored == CheckingReader(source, spec).stored
    assert verify(mirror).faults == []
    for path in CheckingReader(source, spec).paths():
        place = mirror / path.relative_to(source)
        with h5py.File(path, "r", locking=False) as there:
            if not place.exists():
                assert not there["episodes"][:].tobytes().strip(b"\0"), f"{path} has rows and no mirror"
                continue
            with h5py.File(place, "r", locking=False) as here:
                assert dict(here.attrs) == dict(there.attrs)
                for name in ("episodes", "seal"):
                    assert here[name][:].tobytes() == there[name][:].tobytes()


def indices(root: Path) -> set[int]:
    """What a reader finds, every byte compared with what it must be."""
    return set(CheckingReader(root, SPEC).indices)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty episodes in several shards, all but the last of them full."""
    return grown(tmp_path / "source", 20)


def grown(root: Path, count: int) -> Path:
    """A dataset of the first indices, or more of them in the one that is there."""
    world = World(UnsyncedDisk(), root, random.Random(1))
    world.start(SMALL)
    world.groups([index for index in range(count) if index not in world.bench.store.committed], largest=3)
    stop(world)
    return root


def stop(world: World) -> None:
    """A clean stop, of the disk's threads too."""
    world.stop()
    world.disk.stop()


def test_a_mirror_has_every_committed_byte_and_nothing_else(source: Path, tmp_path: Path) -> None:
    before, mirror = state(source), tmp_path / "mirror"
    assert pull(source, mirror, Disk()) == 20
    assert_same(source, mirror)
    assert state(source) == before, "the source was touched"
    shards = list(source.rglob("*.h5"))
    assert len(shards) > 3
    for path in shards:
        there, here = path.stat(), (mirror / path.relative_to(source)).stat()
        assert here.st_size == there.st_size
        assert here.st_blocks <= there.st_blocks, "it takes more of the disk than the source"
    assert {path.name for path in mirror.iterdir()} == {"dataset.json", "sink.lock", "tests"}


def test_it_grows_with_the_source(tmp_path: Path) -> None:
    root, mirror = tmp_path / "source", tmp_path / "mirror"
    world = World(UnsyncedDisk(), root, random.Random(2))
    world.start(SMALL)
    with Mirror(root, mirror, 2) as made:
        assert made.pull() == 0
        for first in range(0, 24, 3):
            world.commit(first, first + 1)
            world.put(first + 2)  # not committed yet
            assert made.pull() == 2 + (first > 0)
            assert indices(mirror) == set(range(first + 2))
        stop(world)
        assert made.pull() == 1
        assert made.pull() == 0
    assert_same(root, mirror)


def test_a_sink_goes_on_where_a_mirror_ends(source: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    pull(source, mirror)
    grown(mirror, 26)
    assert indices(mirror) == set(range(26))
    grown(source, 27)
    with pytest.raises(DatasetError, match=r"its rows are not those of .*; remove .* and run this again"):
        pull(source, mirror)
    assert indices(mirror) == set(range(26)), "what the sink had collected is gone"


def test_a_row_that_the_source_lost_is_told(tmp_path: Path) -> None:
    """A power cut may take rows that were written and not synced; others come in their place."""
    root, mirror, disk = tmp_path / "source", tmp_path / "mirror", UnsyncedDisk()
    with Bench(root, SPEC, disk=disk, uuid=dataset_uuid(made(root))) as bench:
        bench.put(0)
        bench.put(1)
        pull(root, mirror)
    path = root / SPEC.name / "000000.h5"
    layout = ShardLayout.read(path)
    with open(path, "r+b") as file:
        file.seek(layout.offsets["episodes"] + EPISODE.itemsize)
        file.write(bytes(EPISODE.itemsize))
    with Bench(root, SPEC, disk=disk, uuid=dataset_uuid(root)) as bench:
        bench.put(2)
    disk.stop()
    with pytest.raises(DatasetError, match="lost rows to a power cut"):
        pull(root, mirror)


def made(root: Path) -> Path:
    """A new directory."""
    root.mkdir()
    return root


# --- flags ------------------------------------------------------------------------------------------------------------


def test_flags_come_along_line_by_line_and_before_the_rows(source: Path, tmp_path: Path) -> None:
    mirror, path = tmp_path / "mirror", Path(SPEC.name) / FLAGS_NAME

    def same() -> bool:
        return (mirror / path).read_bytes() == (source / path).read_bytes()

    add_flag(source, SPEC.name, Word("discard", [3, 19], "fell"))
    with Mirror(source, mirror, 1, UnsyncedDisk()) as made:
        assert made.pull(Watch(stopped=lambda: True)) == 0
        assert same()
        assert not list(mirror.rglob("*.h5"))
        assert made.pull() == 20
        add_flag(source, SPEC.name, Word("keep", [3]))
        add_flag(source, SPEC.name, Word("flag", [4], "blurred"))
        assert made.pull() == 0
        assert same()
    with (mirror / path).open("ab") as file:  # what a mirror that was killed may leave
        file.write(b'{"sequence":3,"ind')
    add_flag(source, SPEC.name, Word("unflag", [4]))
    assert pull(source, mirror) == 0
    assert same()
    assert_same(source, mirror)
    report = verify(mirror)
    assert (report.discarded, report.flagged, report.notes) == (1, 0, [])


def test_flags_of_the_mirror_itself_or_damaged_ones_are_told(source: Path, tmp_path: Path) -> None:
    mirror, path = tmp_path / "mirror", Path(SPEC.name) / FLAGS_NAME
    pull(source, mirror)
    add_flag(mirror, SPEC.name, Word("discard", [3], "fell"))
    with pytest.raises(DatasetError, match=r"its lines are not those of .* Flags belong in the source"):
        pull(source, mirror)
    (mirror / path).unlink()
    add_flag(source, SPEC.name, Word("discard", [3], "fell"))
    (source / path).write_bytes((source / path).read_bytes().replace(b"fell", b"feel"))
    grown(source, 22)
    with pytest.raises(CorruptionError, match=r"differs from its checksum.*; nothing of this stream was mirrored"):
        pull(source, mirror)
    assert indices(mirror) == set(range(20)), "rows without what was said of them"


# --- killed, and cut ------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=6), st.integers(0, 99))
def test_killed_at_any_operation_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, int]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("lives")
    root, mirror = folder / "source", folder / "m" / "mirror"
    mirror.parent.mkdir()
    world = World(UnsyncedDisk(), root, random.Random(seed))
    world.start(SMALL)
    committed, seen = 0, set[int]()
    for new, operations in lives:
        world.commit(*range(committed, committed + new))
        committed += new
        disk = RecordingDisk(mirror.parent, kill_at=operations)
        killed_pull(root, mirror, disk)
        found = indices(mirror)
        assert seen <= found <= set(range(committed))
        assert found == set(range(len(found))), "there is a gap"
        seen = found
    stop(world)
    pull(root, mirror)
    assert_same(root, mirror)
    shutil.rmtree(folder)


def killed_pull(source: Path, mirror: Path, disk: RecordingDisk) -> bool:
    """One run that may be killed; True if it was."""
    try:
        with Mirror(source, mirror, 1, disk) as made:
            made.pull()
    except KilledError:
        return True
    finally:
        disk.die()
    return False


def test_every_image_that_a_power_cut_can_leave_goes_on(tmp_path: Path) -> None:
    """The source grows while it is mirrored; the mirror loses power at any moment."""
    rng = random.Random(7)
    root, folder = tmp_path / "source", made(tmp_path / "m")
    disk = RecordingDisk(folder)
    world = World(UnsyncedDisk(), root, rng)
    world.start(SMALL, late=True)
    told = set[int]()
    with Mirror(root, folder / "mirror", 1, disk) as mirror:
        for first in range(0, 21, 3):
            world.groups(range(first, first + 3), largest=3)
            mirror.pull()
            disk.acked(sorted(set(range(first + 3)) - told))
            told |= set(range(first + 3))
        stop(world)
        mirror.pull()
    disk.die()
    history = History(disk)
    moments = sorted(
        rng.choice((rng.randrange(len(history)), rng.choice(history.busy_moments()))) for _ in range(IMAGES)
    )
    for number, moment in enumerate(moments):
        history.go_to(moment)
        kind = KINDS[number % len(KINDS)]
        image = tmp_path / "image"
        history.image(kind, rng).write(image)
        try:
            check_image(root, image / "mirror", history.acked, number % SINKS == 0)
        except Exception as error:
            error.add_note(f"image {number}: {kind}, after {moment} of {len(history) - 1} operations")
            raise


def check_image(source: Path, mirror: Path, promised: set[int], with_sink: bool) -> None:
    """Whole for readers, for verify and for a sink; and a second run goes on."""
    assert indices(mirror) >= promised
    if (mirror / "dataset.json").exists():
        assert verify(mirror).faults == []
    if with_sink and mirror.exists():
        sink = shutil.copytree(mirror, mirror.with_name("sink"))
        grown(sink, 22)
        assert indices(sink) == set(range(22))
        shutil.rmtree(sink)
    pull(source, mirror)
    assert_same(source, mirror)


class FullDisk(UnsyncedDisk):
    """Has room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Or raise what a full disk raises."""
        self._room -= sum(map(len, buffers))
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, buffers, offset)


def test_a_full_disk_leaves_a_dataset(source: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    with pytest.raises(OSError, match="No space left"):
        pull(source, mirror, FullDisk(60_000))
    had = indices(mirror)
    assert 0 < len(had) < 20
    assert verify(mirror).faults == []
    pull(source, mirror)
    assert_same(source, mirror)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_mirror_is_refused(source: Path, tmp_path: Path) -> None:
    other, full, before = grown(tmp_path / "other", 1), made(tmp_path / "full"), state(source)
    (full / "thesis.tex").write_text("...")
    for mirror, why in (
        (other, "is dataset .* choose another directory"),
        (full, r"not empty: it has thesis\.tex"),
        (full / "thesis.tex", "is no directory"),
    ):
        with pytest.raises(DatasetError, match=why):
            pull(source, mirror)
    for mirror in (source, source / "below", tmp_path):
        with pytest.raises(ConfigurationError, match="lie in each other"):
            pull(source, mirror)
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    assert state(source) == before


def test_a_mirror_that_somebody_writes_to_is_refused(source: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    lock = DirectoryLock(made(mirror), UnsyncedDisk())
    lock.say("tcp://127.0.0.1:5555")
    try:
        with pytest.raises(LockedError, match=r"another sink writes .*tcp://127\.0\.0\.1:5555"):
            pull(source, mirror)
    finally:
        lock.release()
    with Mirror(source, mirror, 1, UnsyncedDisk()), pytest.raises(LockedError, match="cannot be a mirror now"):
        pull(source, mirror)


@pytest.mark.parametrize("missing", ["nothing", "empty"])
def test_a_source_that_is_none_is_refused(missing: str, tmp_path: Path) -> None:
    root = tmp_path / missing
    if missing == "empty":
        root.mkdir()
    with pytest.raises(DatasetError, match=r"expected dataset\.json and shards"):
        pull(root, tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


# --- bad sources ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six episodes in one shard."""
    root = tmp_path / "pictures"
    write_dataset(root, [Recorded(index) for index in range(6)])
    return root


def flip(root: Path, name: str, place: int) -> Path:
    """Change one bit of a dataset of the first shard."""
    path = root / PICTURES.name / "000000.h5"
    offset = ShardLayout.read(path).offsets[name] + place
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "field", "why", "left"),
    [
        ("blob", "frame", "row 3, index 3, camera 'front', step 0: the frame differs from its checksum", 3),
        ("blob", "attributes", "row 3, index 3: .* differs from its checksum", 3),
        ("steps/action", "step", "row 3, index 3: the episode differs from its checksum: damage in rows 18 to 24", 3),
        ("steps/images/wrist", "place", "row 3, index 3, camera 'wrist', step 0: frame table", 3),
        ("episodes", "row", "row 3: the row differs from its checksum", 3),
    ],
)
def test_a_damaged_source_is_refused_with_the_place(
    pictures: Path, tmp_path: Path, name: str, field: str, why: str, left: int
) -> None:
    with DatasetView(pictures) as view:
        episode = list(view.new_episodes())[3]
        place = {
            "frame": int(episode.frame_table("front")["offset"][0]) + 300,
            "attributes": int(episode.row["attributes_offset"]) + 20,
            "step": int(episode.row["first_step"]) * 8,
            "place": int(episode.row["first_step"]) * 16 + 12,
            "row": 3 * EPISODE.itemsize + 40,
        }[field]
    path = flip(pictures, name, place)
    mirror = tmp_path / "mirror"
    with pytest.raises(CorruptionError, match=f"{path}: {why}"):
        pull(pictures, mirror)
    report = verify(mirror)
    assert (report.faults, report.episodes) == ([], left), "what comes before the damage is not whole"
    flip(pictures, name, place)
    pull(pictures, mirror)
    assert (verify(mirror).faults, verify(mirror).episodes) == ([], 6)


def test_a_cut_or_foreign_shard_is_refused_and_the_others_are_mirrored(pictures: Path, tmp_path: Path) -> None:
    good = pictures / PICTURES.name / "000000.h5"
    other = tmp_path / "other"
    write_dataset(other, [Recorded(7)])
    shutil.copy(other / PICTURES.name / "000000.h5", good.with_name("000001.h5"))
    mirror = tmp_path / "mirror"
    with pytest.raises(DatasetError, match=r"000001\.h5 belongs to dataset"):
        pull(pictures, mirror)
    assert verify(mirror).episodes == 6
    good.with_name("000001.h5").unlink()
    os.truncate(good, 100_000)
    with pytest.raises(DatasetError, match=r"000000\.h5"):
        pull(pictures, tmp_path / "second")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = tmp_path / "mirror"
    assert main([str(source), str(mirror), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["new_rows"], told["rows"], told["interrupted"]) == (20, 20, False)
    assert told["new_bytes"] > 0
    assert main([str(source), str(mirror)]) == 0
    assert "0 new episodes, 0.0 MB in " in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="--poll 0"):
        main([str(source), str(mirror), "--poll", "0"])
    shutil.rmtree(source)
    with pytest.raises(DatasetError, match="is no directory"):
        main([str(source), str(mirror)])


def test_it_can_be_stopped_between_batches(source: Path, tmp_path: Path) -> None:
    mirror, asked = tmp_path / "mirror", iter([False] * 4 + [True] * 100)
    with Mirror(source, mirror, 1, UnsyncedDisk()) as made:
        done = made.pull(Watch(stopped=lambda: next(asked)))
    assert 0 < done < 20
    assert len(indices(mirror)) == done


def test_it_follows_a_sink_and_is_killed_again_and_again(tmp_path: Path) -> None:
    """A real sink and a real producer; the mirror starts before them, and is ended in every way that there is."""
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    data.mkdir()
    follow = ("-m", "deploy.main", "mirror", data, mirror, "--follow", "--poll", "0.05")
    spec = counting_spec()
    with Process(*follow) as waiting:
        waiting.says("waiting for a sink to begin")
        with SinkProcess(data) as sink:
            sink.ready()
            with Publisher(sink.endpoint, spec, Goal(end=60)) as publisher:
                for index in publisher.leases():
                    publish(publisher, index)
                    if index == 10:
                        wait_until(lambda: CheckingReader(mirror, spec).indices, "the first episode in the mirror")
                        waiting.child.send_signal(signal.SIGKILL)
                        waiting.wait()
                    if index in (20, 30, 40):
                        with Process(*follow) as again:
                            had = len(CheckingReader(mirror, spec).indices)
                            wait_until(lambda had=had: len(CheckingReader(mirror, spec).indices) > had, "more")  # type: ignore[misc]
                            again.kill()
            with Process(*follow) as last:
                wait_until(lambda: len(CheckingReader(mirror, spec).indices) == 60, "all of it")
                last.child.send_signal(signal.SIGINT)
                assert last.wait() == 0, "Ctrl-C is how --follow ends"
            assert sink.terminate() == 0
    with Process("-m", "deploy.main", "mirror", data, mirror) as end:
        assert end.wait() == 0
    assert_same(data, mirror, spec)
