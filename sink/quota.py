"""A limit to what one dataset may take of the disk, so that it can share one with others."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Quota:
    """All files below `root` together may take `limit_bytes` of disk, whoever put them there."""

    root: Path
    limit_bytes: int

    @property
    def left_bytes(self) -> int:
        """What is left; below zero if the files take more."""
        paths = (os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names)
        return self.limit_bytes - sum(map(_allocated, paths))


def _allocated(path: str) -> int:
    """Bytes of disk that a file takes: reserved ones count, those given back do not."""
    with suppress(FileNotFoundError):  # a draft may be gone already
        return os.lstat(path).st_blocks * 512
    return 0
