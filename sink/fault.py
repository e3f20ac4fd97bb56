"""One thing that is wrong with a dataset, and exactly where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """path: the shard, or the file that is concerned. row: of its table `episodes`. index: of the stream."""

    path: Path
    what: str
    row: int | None = None
    index: int | None = None
    camera: str | None = None
    step: int | None = None

    @property
    def place(self) -> str:
        """The place inside the file, e.g. `row 3, index 17, camera 'front', step 4`; empty for the file as a whole."""
        camera = None if self.camera is None else repr(self.camera)
        named = (("row", self.row), ("index", self.index), ("camera", camera), ("step", self.step))
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.path), self.place, self.what) if part)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "path": str(self.path)}
