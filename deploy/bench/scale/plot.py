"""A picture of the model: producers that one sink serves, by the size of their frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from deploy.bench.scale.model import WORKLOADS, Machine, most

_SIZES_KB = [2.0 * 1.08**place for place in range(64)]
_LINES = {
    "interpreter": "Python threads, nothing overlaps",
    "writer": "writer thread alone",
    "network": "25 Gbit/s",
    "disk": "disk, 3 GB/s",
}


def draw(path: Path) -> None:
    """The first workload with frames of 2 to 250 kB; what lies below the lowest line can be served."""
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    work = WORKLOADS[0]
    found = [most(replace(work, frame_bytes=1e3 * size), Machine()) for size in _SIZES_KB]
    for name, label in _LINES.items():
        style = "--" if name == "disk" else "-"
        axes.plot(_SIZES_KB, [limits[name] for limits in found], style, label=label)
    curve = [most(replace(work, frame_bytes=1e3 * size), Machine(curve=True)) for size in _SIZES_KB]
    axes.plot(_SIZES_KB, [limits["zmq thread"] for limits in curve], ":", label="with keys: libzmq's thread")
    axes.set(
        xscale="log", yscale="log", ylim=(30, 10_000), xlabel="bytes of a frame [kB]", ylabel="producers on one sink"
    )
    rate = work.frames / work.episode_s
    axes.set_title(f"each producer sends {rate:.0f} frames a second", fontsize=10)
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path)
