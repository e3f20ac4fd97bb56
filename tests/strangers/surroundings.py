"""A tree of files round a dataset directory, and whether anything in it was touched."""

from __future__ import annotations

import hashlib
from pathlib import Path


class Surroundings:
    """root/ has files beside, above and below names that a path trick might reach; the dataset is root/inner/data."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "inner" / "data"
        self.data.parent.mkdir(parents=True)
        for name in ("x", "abs", "lock", "inner/x", "inner/lock", "inner/x.h5", "inner/datax/000000.h5"):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode() * 10)
        self._before = self._look()

    def _look(self) -> dict[str, tuple[int, str]]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            if path != self.data and self.data not in path.parents:
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
                found[str(path)] = path.lstat().st_mode, content
        return found

    def check(self) -> None:
        """Nothing beside the dataset changed, and nothing in it leads outside."""
        assert self._look() == self._before
        for path in self.data.rglob("*"):
            assert path.resolve().is_relative_to(self.data.resolve()), path
