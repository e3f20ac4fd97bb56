"""`headrace doctor`: does this machine have what Headrace needs? One line for each thing, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from deploy.check import Check, State
from deploy.disk_checks import disk_checks
from deploy.machine_checks import (
    clock_check,
    cores_check,
    descriptors_check,
    graphics_checks,
    jpeg_check,
    memory_check,
    port_checks,
    torch_check,
)
from deploy.package_checks import package_checks, python_check

MARKS: dict[State, tuple[str, str]] = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red")}
NAME_WIDTH = 22


@dataclass(frozen=True)
class DoctorFlags:
    """Check Python, packages, OpenGL, JPEG speed, disk, ports, cores, memory, limits and clock of this machine."""

    data: Path = Path(".")
    """Directory whose disk is checked; writes 64 MB there and removes them, reports GB and MB/s."""
    json: bool = False
    """Print one JSON object instead: name, state, found and advice of each check."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if nothing that is needed is missing, otherwise 1."""
    flags = tyro.cli(DoctorFlags, prog="headrace doctor", args=argv)
    found = []
    console = Console(highlight=False, soft_wrap=True)
    for check in checks(flags.data):
        found.append(check)
        if not flags.json:
            console.print(_line(check))
    missing = [check.name for check in found if check.state == "missing"]
    if flags.json:
        answer = {"ready": not missing, "checks": [asdict(check) for check in found]}
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    else:
        console.print(f"missing: {', '.join(missing)}" if missing else "ready")
    return 1 if missing else 0


def checks(data: Path) -> Iterator[Check]:
    """All checks, quick ones first."""
    quick = (cores_check(), memory_check(), descriptors_check(), clock_check())
    yield from chain([python_check()], package_checks(), quick, port_checks(), disk_checks(data))
    yield jpeg_check()
    yield torch_check()
    yield from graphics_checks()


def _line(check: Check) -> Text:
    mark, colour = MARKS[check.state]
    line = Text(f"{mark} ", style=colour)
    line.append(f"{check.name:<{NAME_WIDTH}}", style="default")
    line.append(check.found, style="default")
    if check.advice:
        line.append(f" → {check.advice}", style=colour)
    return line


if __name__ == "__main__":
    sys.exit(main())
