"""What a sink's /status says, as tables for a terminal. Names come over the wire: they are shown, never interpreted."""

from __future__ import annotations

from typing import Any

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


def shown(text: str) -> Text:
    """Text of others, without what would move the cursor, clear the screen or colour it."""
    return Text("".join(letter if letter.isprintable() else "?" for letter in text))


def streams_table(status: dict[str, Any]) -> Table:
    """One row a stream: progress, rates, and how long its goal will take at this rate."""
    made = Table(box=None, pad_edge=False)
    for name in ("stream", "progress", "", "failed", "episodes/h", "MB/s", "frames", "left"):
        made.add_column(name, justify="left" if name in ("stream", "progress") else "right")
    for name, totals in status["streams"].items():
        goal, done = totals["goal_successes"], totals["successes"]
        made.add_row(
            shown(name),
            ProgressBar(total=goal, completed=done, width=30) if goal else "",
            f"{done}/{goal}" if goal else str(done),
            str(totals["episodes"] - done),
            f"{totals['episodes_per_hour']:.0f}",
            f"{totals['mb_per_s']:.1f}",
            str(totals["frames"]),
            time_left(totals),
        )
    return made


def producers_table(status: dict[str, Any]) -> Table:
    """One row a session."""
    made = Table(box=None, pad_edge=False)
    for name in ("producer", "host", "stream", "state", "under way", "silent"):
        made.add_column(name)
    for row in status["producers"]:
        under_way = ", ".join(map(str, row["episodes_under_way"])) or "-"
        state = row["state"] or "starting"
        cells = map(shown, (row["name"], row["host"], row["stream"], state, under_way))
        made.add_row(*cells, f"{row['silent_s']:.0f} s")
    return made


def time_left(totals: dict[str, Any]) -> str:
    """Until the goal at the rate of the last minute and the share of successes so far; empty if it cannot be told."""
    goal, done, episodes = totals["goal_successes"], totals["successes"], totals["episodes"]
    if not goal or done >= goal or not done or not totals["episodes_per_hour"]:
        return ""
    minutes = 60 * (goal - done) / (totals["episodes_per_hour"] * done / episodes)
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
