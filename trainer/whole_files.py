"""Folders and files that appear whole or not at all.

The order holds after a crash as well: files are synced before their folder gets its name, and the name is synced before
anything can point to it. What a dead writer leaves begins with a dot and is never read.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_DRAFT = ".draft-"
# A draft that nobody touched for so long belongs to a writer that died.
OLD_DRAFT_S = 3600.0


def write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Make a folder with these files, name → bytes; False if one of this name is there. Raises OSError."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder.parent))
    try:
        draft.chmod(0o755)
        for name, data in files.items():
            _write_fd(os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), data)
        _sync_folder(draft)
        os.rename(draft, folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    _sync_folder(folder.parent)
    return True


def replace_file(path: Path, data: bytes) -> None:
    """A reader sees the old bytes or the new, never a part of either. Raises OSError."""
    fd, draft = tempfile.mkstemp(prefix=_DRAFT, dir=path.parent)
    try:
        _write_fd(fd, data)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise
    _sync_folder(path.parent)


def remove_old_drafts(folder: Path) -> None:
    """What writers left in this folder that died long ago. Raises OSError."""
    for draft in folder.glob(f"{_DRAFT}*"):
        # Other writers give their drafts the final name, or remove the same old one, meanwhile.
        with suppress(FileNotFoundError):
            if time.time() - draft.lstat().st_mtime > OLD_DRAFT_S:
                shutil.rmtree(draft)


def _write_fd(fd: int, data: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(fd, 0o644)
        os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
