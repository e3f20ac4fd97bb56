"""`python -m tests.system.skewed FILE MODULE …`: run a program whose wall clock is off by the seconds in FILE.

The file may change while the program runs: then its clock jumps. The monotonic clock is left alone.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def skew(file: Path) -> None:
    """Let `time.time` and `time.time_ns` go wrong as the file says."""
    wall = time.time_ns

    def time_ns() -> int:
        return wall() + int(file.read_text() or 0) * 10**9

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


if __name__ == "__main__":
    skew(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
