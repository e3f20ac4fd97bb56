"""`python -m tests.sink.slow_sink GATE …`: a sink whose disk takes nothing until the file GATE exists."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from protocol.checksum import Buffer
from sink import __main__ as program
from sink import daemon
from sink.disk import Disk
from sink.quota import Quota


class SlowDisk(Disk):
    """Waits for the gate before each write."""

    def __init__(self, gate: Path, quota: Quota | None) -> None:
        super().__init__(quota)
        self.gate = gate

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write, once the gate is open."""
        while not self.gate.exists():
            time.sleep(0.01)
        super().write(fd, buffers, offset)


if __name__ == "__main__":
    daemon.Disk = partial(SlowDisk, Path(sys.argv[1]))  # type: ignore[assignment,misc]
    sys.exit(program.main(sys.argv[2:]))
