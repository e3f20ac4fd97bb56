"""`python -m sink.bench.stalled GATE …`: `headrace sink …` on a disk that takes nothing while GATE is missing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from protocol.checksum import Buffer
from sink import __main__ as program
from sink.disk import Disk


class StalledDisk(Disk):
    """Waits for the gate before each write."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write, once the gate is open."""
        while not self._gate.exists():
            time.sleep(0.01)
        super().write(fd, buffers, offset)


def main(argv: Sequence[str]) -> int:
    """Run a sink. argv: the gate, then the flags of a sink."""
    return program.main(argv[1:], StalledDisk(Path(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
