"""`headrace demo`: the main job, end to end, on this machine, with a reader that follows the dataset live."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from deploy.collection import LocalCollection
from deploy.contact_sheet import contact_sheet
from deploy.display import CollectionDisplay
from deploy.follow import Follower, Seen
from deploy.topology import LocalFlags, Topology, local_topology
from deploy.up import INTERRUPTED, interruptible
from protocol.dataset_view import DatasetView
from protocol.messages import Outcome
from protocol.success_rate import wilson_interval

_REFRESH_S = 0.5


@dataclass(frozen=True)
class DemoFlags:
    """Collect PickPlaceCan at the ACT spec (480×640, 50 Hz, two cameras), follow it live, and show what came out."""

    data: Path = Path("runs/demo")
    """Dataset directory; a demo that was stopped goes on there."""
    env: str = "PickPlaceCan"
    """robosuite task."""
    episodes: int = 20
    """Successful episodes to collect."""
    workers: int = 2
    """Worker processes, one core each."""
    json: Path | None = None
    """Write the table to this file too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Raises HeadraceError."""
    flags = tyro.cli(DemoFlags, prog="headrace demo", args=argv)
    console = Console(stderr=True)
    topology = local_topology(LocalFlags(flags.data, flags.env, flags.episodes, flags.workers))
    began = time.monotonic()
    seen = _collect(topology, console)
    if seen is None:
        stopped = f"stopped; every acknowledged episode is in {flags.data}. The same command goes on."
        console.print(stopped, soft_wrap=True)
        return INTERRUPTED
    figures = _figures(flags.data, seen, time.monotonic() - began)
    sheet = contact_sheet(flags.data, flags.data / "contact_sheet.png")
    Console().print(_table(figures))
    Console().print(f"dataset        {flags.data}\ncontact sheet  {sheet}", highlight=False, soft_wrap=True)
    if not seen.episodes:
        earlier = f"the goal was met by an earlier run; remove {flags.data} to see it collected again"
        console.print(earlier, soft_wrap=True)
    if flags.json:
        flags.json.write_text(json.dumps(figures, indent=1))
    return 0


def _collect(topology: Topology, console: Console) -> Seen | None:
    """Collect to the end with a reader beside; None if the user stopped it."""
    follower = Follower(Path(topology.sink.data))
    with interruptible() as stop, CollectionDisplay(console) as display, LocalCollection(topology) as collection:
        follower.start()
        while not collection.finished and not stop.is_set():
            collection.refresh()
            display.update(collection.status)
            stop.wait(_REFRESH_S)
        if stop.is_set():
            display.update(collection.status, "stopping: what is whole is committed first (again to end at once)")
            return None
        collection.refresh()
        display.update(collection.status)
    return follower.stop()


def _figures(root: Path, seen: Seen, seconds: float) -> dict[str, Any]:
    with DatasetView(root) as view:
        episodes = list(view.new_episodes())
        cameras = episodes[0].shard.spec.cameras
    total = len(episodes)
    steps = sum(episode.steps for episode in episodes)
    frame_bytes = sum(int(episode.row["frames_bytes"]) for episode in episodes)
    successes = sum(episode.outcome is Outcome.SUCCESS for episode in episodes)
    low, high = wilson_interval(successes, total)
    rate = seen.successes / seconds * 3600 if seen.successes else 0.0
    return {
        "episodes": successes,
        "attempts": total,
        "success_rate": successes / max(total, 1),
        "success_rate_95": [low, high],
        "steps": steps,
        "frames": steps * len(cameras),
        "frames_read_live": seen.frames,
        "frame_bytes": frame_bytes,
        "compression": steps * sum(camera.raw_bytes for camera in cameras) / max(frame_bytes, 1),
        "episodes_per_hour": rate,
        "seconds": seconds,
        "visible_ms_p50": _percentile(seen.visible_ms, 50),
        "visible_ms_p99": _percentile(seen.visible_ms, 99),
    }


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="Headrace demo", show_header=False)
    low, high = figures["success_rate_95"]
    visible = (
        f"{figures['visible_ms_p50']:.0f} ms median, {figures['visible_ms_p99']:.0f} ms p99"
        if figures["visible_ms_p50"] is not None
        else "nothing new: the goal was met already"
    )
    for name, value in (
        ("episodes", f"{figures['episodes']} successful of {figures['attempts']} attempts, {figures['steps']} steps"),
        ("success rate", f"{figures['success_rate']:.1%} (95 % interval {low:.1%} to {high:.1%})"),
        ("frames", f"{figures['frames']}, {figures['frames_read_live']} of them read and checked while this ran"),
        ("bytes", f"{figures['frame_bytes'] / 1e6:.1f} MB of JPEG"),
        ("compression", f"{figures['compression']:.1f} × smaller than raw uint8"),
        ("episodes per hour", f"{figures['episodes_per_hour']:.0f} ({figures['seconds']:.0f} s, start-up included)"),
        ("time to visibility", visible),
    ):
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    sys.exit(main())
