"""Files that appear whole under their names, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a killed export may leave; hidden, so that no reader takes it for a result.
DRAFT_PREFIX, DRAFT_SUFFIX = ".", ".draft"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft beside `path` to write to; synced and renamed when the block ends, removed if it raises.

    The process' number is in its name: a worker that outlives its killed export for a moment harms nobody. Folders of
    `path` are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, because libraries choose the kind of file by it.
    draft = path.with_name(f"{DRAFT_PREFIX}{path.stem}.{os.getpid()}{DRAFT_SUFFIX}{path.suffix}")
    try:
        yield draft
        sync(draft)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Return when the file's bytes are on the disk."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def remove_drafts(folder: Path) -> None:
    """Remove what killed runs left below `folder`."""
    for path in list(folder.rglob(f"{DRAFT_PREFIX}*{DRAFT_SUFFIX}*")):
        path.unlink(missing_ok=True)
