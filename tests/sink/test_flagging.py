"""Adding to the flags of a stream: by several programs at once, which may die at any moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.checksum import Buffer
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, CorruptionError, DatasetError, DiskFullError, LockedError
from protocol.flag_log import FlagLog, read_flags
from protocol.flags import FLAGS_NAME, Place, scan
from sink import flagging
from sink.dataset import stored_uuid
from sink.disk import Disk
from sink.flagging import Word, add_flag
from tests.datasets import SPEC, Recorded, write_dataset

STREAM = SPEC.name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", [Recorded(index, steps=1) for index in range(4)])
    return tmp_path / "data"


def place(root: Path) -> Place:
    return Place(str(stored_uuid(root)), STREAM)


def discard(root: Path, index: int = 1, reason: str = "fell", disk: Disk | None = None) -> None:
    add_flag(root, STREAM, Word("discard", [index], reason, "ana"), disk)


def reasons(root: Path) -> list[str]:
    log = FlagLog(root / STREAM, place(root))
    log.refresh()
    return [record.reason for record in log.records]


def test_what_was_said_is_there_for_every_reader_and_the_shards_are_as_before(root: Path) -> None:
    shard = root / STREAM / "000000.h5"
    before = shard.read_bytes()
    record = add_flag(root, STREAM, Word("discard", [3, 1, 3], "fell"))
    assert (record.sequence, record.indices) == (0, (1, 3))
    assert "@" in record.who
    add_flag(root, STREAM, Word("flag", [2], "blurred", "ana"))
    add_flag(root, STREAM, Word("keep", [3], who="ana"))
    with DatasetView(root) as view:
        assert [episode.index for episode in view.kept_episodes(STREAM)] == [0, 2, 3]
        flags = view.flags(STREAM)
        assert (flags.discarded(), flags.flagged()) == ([1], [2])
        assert flags.of(1).discarded == record
        add_flag(root, STREAM, Word("keep", [1]))
        assert flags.discarded() == [1], "as of the last look"
        assert view.flags(STREAM).discarded() == []
    assert shard.read_bytes() == before
    assert len((root / STREAM / FLAGS_NAME).read_text().splitlines()) == 4


def test_what_cannot_be_said_is_refused_and_nothing_is_written(root: Path) -> None:
    with pytest.raises(DatasetError, match="no committed index 4, 9; "):
        add_flag(root, STREAM, Word("flag", [1, 9, 4], "blurred"))
    with pytest.raises(DatasetError, match="has no stream 'lab/none'; the streams there are: test/count"):
        add_flag(root, "lab/none", Word("keep", [1]))
    with pytest.raises(ConfigurationError, match="expected a reason"):
        add_flag(root, STREAM, Word("discard", [1]))
    with pytest.raises(ConfigurationError, match="expected ascending indices"):
        add_flag(root, STREAM, Word("discard", [-1], "fell"))
    assert not (root / STREAM / FLAGS_NAME).exists()
    with DatasetView(root) as view, pytest.raises(DatasetError, match="no stream 'lab/none'"):
        view.flags("lab/none")


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_what_a_crash_left_of_a_line_is_cut_off_by_the_next_writer(root: Path, left: int) -> None:
    discard(root)
    path = root / STREAM / FLAGS_NAME
    first = path.read_bytes()
    discard(root, 2, "to be torn")
    path.write_bytes(path.read_bytes()[: len(first) + left] if left >= 0 else path.read_bytes()[:-1])
    assert reasons(root) == ["fell"]
    discard(root, 3, "after it")
    assert reasons(root) == ["fell", "after it"]
    assert path.read_bytes().startswith(first)


def test_damage_is_told_and_nothing_is_added_to_it(root: Path) -> None:
    discard(root)
    path = root / STREAM / FLAGS_NAME
    damaged = path.read_bytes().replace(b"fell", b"feel")
    path.write_bytes(damaged)
    with pytest.raises(CorruptionError, match="line 0, at byte 0: it differs from its checksum"):
        discard(root, 2)
    assert path.read_bytes() == damaged
    with DatasetView(root) as view, pytest.raises(CorruptionError, match="what is discarded cannot be told"):
        view.kept_episodes(STREAM)


def test_a_reader_notices_that_flags_were_taken_away(root: Path) -> None:
    discard(root)
    discard(root, 2)
    path, log = root / STREAM / FLAGS_NAME, FlagLog(root / STREAM, place(root))
    assert (log.refresh(), log.refresh()) == (2, 0)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DatasetError, match="was cut off to 50 bytes, with 2 flags that were seen"):
        log.refresh()
    path.unlink()
    with pytest.raises(DatasetError, match="was removed, with 2 flags"):
        log.refresh()
    path.symlink_to(root / STREAM / "000000.h5")
    with pytest.raises(CorruptionError, match="expected a plain file"):
        read_flags(path)


# --- several at once ----------------------------------------------------------------------------------------------

WRITE_MANY = """
import sys
from pathlib import Path
from sink.flagging import Word, add_flag
root, stream, who, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for number in range(count):
    add_flag(root, stream, Word("flag", [number % 4], f"{who} {number} " + "x" * (number * 37 % 400), who))
    print(number, flush=True)
"""


def test_several_programs_write_at_once_and_every_word_is_there_in_the_order_of_its_writer(root: Path) -> None:
    """A reader looks all the while: what it has seen never changes."""
    count, people = 25, ("ana", "bob", "eve")
    command = [sys.executable, "-c", WRITE_MANY, str(root), STREAM]
    writers = [subprocess.Popen([*command, who, str(count)], stdout=subprocess.DEVNULL) for who in people]
    log, looks, found = FlagLog(root / STREAM, place(root)), 0, 0
    while any(writer.poll() is None for writer in writers):
        found += log.refresh()
        looks += 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found += log.refresh()
    assert (found, [record.sequence for record in log.records]) == (75, list(range(75)))
    for who in people:
        assert [int(r.reason.split()[1]) for r in log.records if r.who == who] == list(range(count))
    assert looks > 1


def test_a_writer_that_is_killed_before_a_sync_harms_nobody(root: Path) -> None:
    """At each sync of the file in turn: the line is there or not, and the next writer goes on."""
    program = """
import os, signal, sys
from pathlib import Path
from sink.disk import Disk
from sink.flagging import Word, add_flag
class Dying(Disk):
    left = int(sys.argv[3])
    def sync(self, fd):
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left -= 1
        super().sync(fd)
add_flag(Path(sys.argv[1]), sys.argv[2], Word("discard", [1], f"killed at {sys.argv[3]}", "ana"), Dying())
"""
    expected: list[str] = []
    for sync in (0, 1):
        died = subprocess.run([sys.executable, "-c", program, str(root), STREAM, str(sync)], timeout=60)
        assert died.returncode == -signal.SIGKILL
        expected += [f"killed at {sync}"] if sync else []  # written, and nobody was told
        assert reasons(root) == expected
        discard(root, 2, f"after {sync}")
        expected.append(f"after {sync}")
        assert reasons(root) == expected


class Recorder(Disk):
    """Notes the order of what is done; has no room while `full`."""

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.done: list[str] = []
        self.full = full

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        self.done.append("write")
        if self.full:
            super().write(fd, [b"".join(buffers)[:40]], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(fd, buffers, offset)

    def cut(self, fd: int, size: int) -> None:
        self.done.append("cut")
        super().cut(fd, size)

    def sync(self, fd: int) -> None:
        self.done.append("sync")
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self.done.append("sync names")
        super().sync_directory(path)


def test_what_was_there_is_durable_before_a_line_is_added_and_the_line_before_anyone_is_told(root: Path) -> None:
    disk = Recorder()
    discard(root, disk=disk)
    path = root / STREAM / FLAGS_NAME
    path.write_bytes(path.read_bytes() + b'{"sequence":1,')
    discard(root, 2, disk=disk)
    one = ["sync", "sync names", "write", "sync"]
    assert disk.done == [*one, "cut", *one]


def test_a_full_disk_is_told_and_leaves_no_part_of_a_line(root: Path) -> None:
    discard(root)
    path = root / STREAM / FLAGS_NAME
    before = path.read_bytes()
    with pytest.raises(DiskFullError, match=r"disk full: .* nothing was said"):
        discard(root, 2, disk=Recorder(full=True))
    assert path.read_bytes() == before


def test_a_disk_that_cannot_sync_is_told_and_nothing_is_cut_off(root: Path) -> None:
    """A reader may have seen the line."""

    class Failing(Disk):
        left = 1

        def sync(self, fd: int) -> None:
            if not self.left:
                raise OSError(errno.EIO, "Input/output error")
            self.left -= 1
            super().sync(fd)

    with pytest.raises(DatasetError, match="written, but could not be made durable"):
        discard(root, 2, disk=Failing())
    assert reasons(root) == ["fell"]


def test_a_writer_that_does_not_end_is_not_waited_for_without_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flagging, "_WAIT_S", 0.05)
    holding, let_go = threading.Event(), threading.Event()

    class Slow(Disk):
        def sync(self, fd: int) -> None:
            holding.set()
            assert let_go.wait(60)
            super().sync(fd)

    slow = threading.Thread(target=discard, args=(root, 1, "slow", Slow()))
    slow.start()
    try:
        assert holding.wait(60)
        with pytest.raises(LockedError, match=r"another program has held its lock for 0\.05 s"):
            discard(root, 2)
    finally:
        let_go.set()
        slow.join()
    assert reasons(root) == ["slow"]


def test_the_file_has_a_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discard(root)
    size = os.path.getsize(root / STREAM / FLAGS_NAME)
    monkeypatch.setattr(flagging, "MAX_FLAGS_BYTES", 2 * size)
    discard(root)
    with pytest.raises(DatasetError, match=f"is full: {2 * size} bytes"):
        discard(root)
    assert len(scan(read_flags(root / STREAM / FLAGS_NAME), place(root)).records) == 2


def test_lines_are_json(root: Path) -> None:
    discard(root, reason='a "quoted" über\\word')
    (line,) = (root / STREAM / FLAGS_NAME).read_text().splitlines()
    said = json.loads(line)
    assert list(said) == ["sequence", "indices", "what", "reason", "who", "time_ns", "checksum"]
    assert said["reason"] == 'a "quoted" über\\word'
