"""What `headrace verify` finds in the flags of a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.errors import CorruptionError
from protocol.flag_log import read_flags
from protocol.flags import FLAGS_NAME, Place, Standings, scan
from sink.fault import Fault

# Indices that a note names; the others are counted.
_NAMED = 5


@dataclass
class FlagAudit:
    """discarded, flagged: committed indices of which that is said. notes: harmless."""

    discarded: int = 0
    flagged: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class FlagFile:
    """The flags of a stream as they were when they were read, before its shards: so their indices were committed."""

    path: Path
    data: bytes

    def audit(self, place: Place, indices: NDArray[np.uint64]) -> FlagAudit:
        """Checksums, numbers and content of the lines. indices: those that are committed."""
        found, audit = scan(self.data, place), FlagAudit()
        if found.fault is not None:
            what = f"{found.fault}; what is discarded from there on cannot be told"
            audit.faults.append(Fault(self.path, what))
        elif found.end < len(self.data):
            what = f"the last {len(self.data) - found.end} bytes are no whole line; nobody was told that it was written"
            audit.notes.append(Fault(self.path, what))
        standings = Standings()
        standings.apply(found.records)
        there = [np.isin(np.array(each, np.uint64), indices) for each in (standings.discarded(), standings.flagged())]
        audit.discarded, audit.flagged = (int(each.sum()) for each in there)
        missing = np.setdiff1d(np.array(sorted(standings.said()), np.uint64), indices)
        if len(missing):
            listed = ", ".join(map(str, missing[:_NAMED].tolist())) + (", …" if len(missing) > _NAMED else "")
            audit.notes.append(Fault(self.path, f"it speaks of indices that are not committed here: {listed}"))
        return audit


def flag_files(root: Path) -> tuple[list[FlagFile], list[Fault]]:
    """All below a dataset directory, and faults of those that cannot be read."""
    files, faults = [], []
    for path in sorted(root.rglob(FLAGS_NAME)):
        try:
            files.append(FlagFile(path, read_flags(path)))
        except CorruptionError as error:
            faults.append(Fault(path, str(error).removeprefix(f"{path}: ")))
    return files, faults
