"""What a bench reports: named figures with their bars, on a named machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One result.

    bar: what it should reach, `at_least` or `at_most`; most: what it should not exceed besides; runs: the single
    measurements behind it.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    sense: Literal["at_least", "at_most"] = "at_least"
    runs: list[float] = field(default_factory=list)
    most: float | None = None

    @property
    def holds(self) -> bool | None:
        """The bar is reached; None without a bar."""
        if self.bar is None:
            return None
        if self.most is not None and self.value > self.most:
            return False
        return self.value >= self.bar if self.sense == "at_least" else self.value <= self.bar


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine())
    packages = ("robosuite", "mujoco", "numpy", "h5py", "pyzmq", "simplejpeg")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def write_json(path: Path, figures: Sequence[Figure], details: dict[str, Any]) -> None:
    """The form that scripts may rely on: {"machine", "figures": [{name, value, unit, bar, holds, runs}], "details"}."""
    rows = [{**asdict(figure), "holds": figure.holds} for figure in figures]
    path.write_text(json.dumps({"machine": machine(), "figures": rows, "details": details}, indent=1) + "\n")


def table(title: str, figures: Sequence[Figure]) -> Table:
    """The same list for people."""
    made = Table(title=title)
    for name in ("figure", "value", "bar", "holds", "runs"):
        made.add_column(name, justify="left" if name == "figure" else "right")
    for figure in figures:
        sign = "≥" if figure.sense == "at_least" else "≤"
        made.add_row(
            figure.name,
            f"{figure.value:.4g} {figure.unit}",
            f"{sign} {figure.bar:g}{'' if figure.most is None else f', ≤ {figure.most:g}'}"
            if figure.bar is not None
            else "",
            {True: "yes", False: "NO", None: ""}[figure.holds],
            f"{min(figure.runs):.3g} to {max(figure.runs):.3g}" if figure.runs else "",
        )
    return made
