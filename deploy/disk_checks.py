"""Can the disk of a dataset do what the sink asks of it, and how fast?"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.check import Check, judge

TEST_BYTES = 64 << 20
PIECE_BYTES = 4 << 20
# One shard of the default size, and the next one in preparation.
NEEDED_BYTES = 2 << 30
SLOW_MB_S = 20.0
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
# linux/magic.h and the file systems' own headers.
FILE_SYSTEMS = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0x794C7630: "overlayfs",
    0x01021994: "tmpfs",
}
NETWORK_FILE_SYSTEMS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x5346414F: "AFS",
    0x65735546: "FUSE",
}


def disk_checks(data: Path) -> Iterator[Check]:
    """Checks of the directory, or of the nearest one above it that exists; nothing is left behind."""
    folder = nearest_directory(data)
    name = "disk"
    free = shutil.disk_usage(folder).free
    advice = (
        "two shards of the default size need 2.1 GB: free some space, or give `headrace sink` a smaller --shard-mib"
    )
    yield judge(f"{name} space", free >= NEEDED_BYTES, f"{free / 1e9:.1f} GB free at {folder}", advice, "warning")
    yield file_system_check(_file_system_magic(folder))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield _write_check(file.fileno(), min(TEST_BYTES, free // 4))
            yield _reserve_check(file.fileno())
            yield _punch_check(file.fileno())
            yield _lock_check(file.fileno())
    except OSError as error:
        why = f"cannot write to {folder}: {error.strerror}"
        yield Check(f"{name} write", "missing", why, "choose another --data, or mend its permissions")


def nearest_directory(path: Path) -> Path:
    """`path`, or the first directory above it that exists."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())


def file_system_check(magic: int) -> Check:
    """Is what is written there durable, and is it seen by others at once?"""
    if magic in NETWORK_FILE_SYSTEMS:
        advice = "write to a local disk; a network file system may lie about fdatasync and flock, and is slower"
        return Check("file system", "warning", f"{NETWORK_FILE_SYSTEMS[magic]}, over the network", advice)
    name = FILE_SYSTEMS.get(magic, f"unknown, type 0x{magic:x}")
    return judge("file system", name != "tmpfs", name, "this is memory: it is gone after a restart", "warning")


def _file_system_magic(folder: Path) -> int:
    """`f_type` of statfs(2): a word at the beginning of the struct, unsigned 32 bits of which count."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(512)
    if libc.statfs(os.fsencode(folder), answer) != 0:
        return 0
    return int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def _write_check(fd: int, size: int) -> Check:
    """Plain writes and one fdatasync: the bar that the sink is measured against."""
    piece = os.urandom(PIECE_BYTES)
    began = time.monotonic()
    for offset in range(0, size, PIECE_BYTES):
        os.pwrite(fd, piece, offset)
    os.fdatasync(fd)
    seconds = time.monotonic() - began
    began = time.monotonic()
    os.pwrite(fd, piece[:4096], 0)
    os.fdatasync(fd)
    sync_ms = (time.monotonic() - began) * 1e3
    rate = size / 1e6 / seconds
    found = f"{rate:.0f} MB/s with fdatasync ({size / 1e6:.0f} MB), {sync_ms:.1f} ms a commit of one page"
    return judge(
        "disk write", rate >= SLOW_MB_S, found, "this disk will be the limit; choose another --data", "warning"
    )


def _reserve_check(fd: int) -> Check:
    try:
        os.posix_fallocate(fd, 0, TEST_BYTES + PIECE_BYTES)
    except OSError as error:
        why = f"posix_fallocate: {error.strerror}"
        return Check(
            "disk reserve", "missing", why, "shards are reserved before they are written; choose another --data"
        )
    return Check("disk reserve", "ok", "posix_fallocate works")


def _punch_check(fd: int) -> Check:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, 0, PIECE_BYTES) == 0:
        return Check("disk give back", "ok", "holes can be punched")
    why = errno.errorcode.get(ctypes.get_errno(), "unknown error")
    return Check("disk give back", "warning", f"no holes: {why}", "full shards will keep their unused reservation")


def _lock_check(fd: int) -> Check:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        why = f"flock: {error.strerror}"
        return Check("disk lock", "missing", why, "the lock keeps two sinks apart; choose a --data on a local disk")
    return Check("disk lock", "ok", "flock works")
