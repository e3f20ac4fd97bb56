"""What this process takes of the machine's memory."""

from __future__ import annotations

import resource

_PAGE_MB = resource.getpagesize() / 1e6


def resident_mb() -> float:
    """Resident memory of this process [MB]: statm of proc(5)."""
    with open("/proc/self/statm") as file:
        return round(int(file.read().split()[1]) * _PAGE_MB, 1)
