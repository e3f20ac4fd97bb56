"""What is appended to a blob lies in the file as it was given, wherever pieces and pages end."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sink.disk import Disk
from sink.pages import MANY, PAGE, STAGE_BYTES
from sink.staging import Staging


@pytest.fixture
def disk() -> Disk:
    return Disk()


def new_file(tmp_path: Path, name: str = "blob", pages: int = 4096) -> Path:
    path = tmp_path / name
    path.write_bytes(bytes(pages * PAGE))
    return path


@pytest.mark.parametrize("seed", range(4))
def test_appends_of_any_size_lie_where_tail_says(tmp_path: Path, disk: Disk, seed: int) -> None:
    rng = random.Random(seed)
    path, base = new_file(tmp_path), 3 * PAGE
    staging = Staging(disk, disk.open_direct(path), base, 100)
    assert staging.tail == PAGE
    written: list[tuple[int, bytes]] = []
    for _ in range(40):
        parts = [rng.randbytes(rng.choice((0, 1, 511, PAGE, 75_000, STAGE_BYTES // 2))) for _ in range(3)]
        written.append((staging.tail, b"".join(parts)))
        staging.append(parts)
        if rng.random() < 0.2:
            staging.flush()
            assert staging.tail % PAGE == 0
            place, data = written[-1]
            assert path.read_bytes()[base + place : base + place + len(data)] == data, "not there after a flush"
    staging.flush()
    staging.close()
    found = path.read_bytes()
    for place, data in written:
        assert found[base + place : base + place + len(data)] == data
    assert not any(found[: base + PAGE])
    disk.stop()


def test_a_page_that_was_flushed_is_never_written_again(tmp_path: Path, disk: Disk) -> None:
    path = new_file(tmp_path)
    fd = disk.open_direct(path)
    staging = Staging(disk, fd, 0, 0)
    staging.append([b"committed"])
    staging.flush()
    with path.open("r+b") as file:
        file.write(b"COMMITTED")
    staging.append([bytes(STAGE_BYTES)] * 3)
    staging.flush()
    assert path.read_bytes()[:9] == b"COMMITTED"
    disk.stop()


def test_many_blobs_at_once_hold_little_memory(tmp_path: Path, disk: Disk) -> None:
    blobs = [
        Staging(disk, disk.open_direct(new_file(tmp_path, str(number), 16)), 0, 0) for number in range(4 * MANY)
    ]
    for turn in range(3):
        for number, blob in enumerate(blobs):
            blob.append([bytes([number, turn]) * 10])
        held = sum(blob._memory is not None for blob in blobs)
        assert held <= MANY
    for number, blob in enumerate(blobs):
        blob.flush()
        pages = 3 if number >= MANY else 1
        data = (tmp_path / str(number)).read_bytes()
        assert data.count(bytes([number])) >= 30, number
        assert len(data) == 16 * PAGE
        assert any(data[: pages * PAGE])
    disk.stop()


def test_a_write_that_failed_is_told_at_the_flush(tmp_path: Path, disk: Disk) -> None:
    path = new_file(tmp_path)
    reader = disk.open(path)
    disk.close(reader)
    staging = Staging(disk, reader, 0, 0)  # the descriptor is closed
    staging.append([b"lost"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        staging.flush()
    disk.stop()


def test_a_file_system_that_takes_no_direct_writes_is_written_through_the_page_cache(
    tmp_path: Path, disk: Disk
) -> None:
    path = new_file(tmp_path)
    fd = disk.open_direct(path)
    odd = memoryview(bytearray(3 * PAGE))[1 : PAGE + 2]
    odd[:] = b"x" * len(odd)
    disk.write(fd, [odd], 7)  # neither memory nor place nor size is what O_DIRECT wants
    assert path.read_bytes()[7 : 7 + len(odd)] == odd
    disk.write(fd, [b"y"], 3)
    assert path.read_bytes()[3:4] == b"y"
    disk.close(fd)


def test_a_write_in_pieces_goes_on_where_it_stopped(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new_file(tmp_path)
    fd = disk.open(path)
    real = os.pwritev

    def in_pieces(fd: int, buffers: list[bytes], offset: int) -> int:
        first = memoryview(buffers[0])
        return real(fd, [first[: max(1, len(first) // 2)]], offset)

    monkeypatch.setattr("sink.disk.os.pwritev", in_pieces)
    disk.write(fd, [b"abcdefgh", b"", b"ij", b"klmnopqrstu"], 5)
    assert path.read_bytes()[:18] == b"\0" * 5 + b"abcdefghijklm"
    disk.close(fd)
