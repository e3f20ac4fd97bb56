"""The peers' results for people, and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from deploy.bench.peers.plan import PeerResult

_CAPTION = (
    "MB/s of JPEG payload, also of those that store pixels. Each writes alone, from its own memory: no transport, no "
    "checksums, and no second try after a crash."
)


def speed_table(results: Sequence[PeerResult]) -> Table:
    """How fast each one wrote; those that were left out, with the reason."""
    made = Table(title="instead of the sink", caption=_CAPTION)
    for name in ("peer", "episodes", "frames/s", "MB/s", "MB on disk", "durable"):
        made.add_column(name, justify="left" if name == "peer" else "right", no_wrap=True)
    made.add_column("promises", overflow="fold")
    for result in results:
        if result.left_out:
            made.add_row(result.name, "", "", "", "", "", f"left out: {result.left_out}")
            continue
        made.add_row(
            result.name,
            str(result.episodes),
            f"{result.frames_per_s:.0f}",
            f"{result.mb_per_s:.1f}",
            f"{result.disk_bytes / 1e6:.0f}",
            "yes" if result.durable else "no",
            result.promises,
        )
    return made


def reader_table(results: Sequence[PeerResult]) -> Table:
    """What a reader finds in the middle of the second episode, and after a kill there."""
    made = Table(title="in the middle of the second episode", show_lines=True)
    for name in ("peer", "a reader finds", "after kill -9 it finds"):
        made.add_column(name, overflow="fold")
    for result in results:
        if not result.left_out:
            made.add_row(result.name, result.while_written, result.after_kill)
    return made


def details(results: Sequence[PeerResult]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(result), "mb_per_s": result.mb_per_s, "frames_per_s": result.frames_per_s} for result in results]
