"""A small disk that really is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Tmpfs:
    """A small file system of its own."""

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path], check=True, capture_output=True)

    def remount(self, mib: int) -> None:
        """Give it another size."""
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.path], check=True)

    def read_only(self) -> None:
        """Take no more writes."""
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)

    def unmount(self) -> None:
        """Take it away, with what is open."""
        subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    """6 MiB; skips where none can be mounted."""
    try:
        made = Tmpfs(tmp_path / "small", 6)
    except (subprocess.CalledProcessError, FileNotFoundError, PermissionError):
        pytest.skip("a tmpfs cannot be mounted here")
    yield made
    made.unmount()
