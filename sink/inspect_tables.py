"""The tables of `headrace inspect`, for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocol.success_rate import wilson_interval
from sink.stream_summary import StreamSummary

# More ranges or shards than these are counted, not listed.
MAX_RANGES, MAX_SHARDS = 8, 12


def show(console: Console, root: Path, summaries: Sequence[StreamSummary]) -> None:
    """Print all streams."""
    if not summaries:
        console.print(f"{root}: no stream yet; nothing was stored here so far")
    for summary in summaries:
        console.print(_stream_table(summary))
        if summary.keep_rows:
            console.print(_episode_table(summary))


def megabytes(size: float) -> str:
    """Bytes in the unit that suits them, 1 MB = 10⁶ bytes."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def ranges(missing: Sequence[tuple[int, int]]) -> str:
    """E.g. `3, 8–11`; the number of indices goes before the list if there are many."""
    if not missing:
        return "none"
    listed = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in missing[:MAX_RANGES])
    more = f", … ({len(missing)} ranges)" if len(missing) > MAX_RANGES else ""
    return f"{sum(b - a + 1 for a, b in missing)}: {listed}{more}"


def _stream_table(summary: StreamSummary) -> Table:
    spec = summary.spec
    table = Table(title=spec.name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    columns = [f"{c.name} {c.dtype}{list(c.shape)}" for c in spec.columns]
    table.add_row("columns", Text(", ".join(columns) or "none"))
    table.add_row("cameras", ", ".join(f"{c.name} {c.height}×{c.width}" for c in spec.cameras) or "none")
    table.add_row("rate", f"{spec.rate_hz:g} Hz, at most {spec.max_steps} steps an episode")
    outcomes = ", ".join(f"{count} {name}" for name, count in summary.outcomes.items() if count)
    table.add_row("episodes", f"{summary.episodes}" + (f": {outcomes}" if outcomes else ""))
    if summary.success_rate is not None:
        low, high = wilson_interval(summary.outcomes["success"], summary.episodes)
        interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} % (Wilson)"
        table.add_row("success", f"{100 * summary.success_rate:.1f} %, {interval}")
    said = ((summary.discarded, "discarded"), (summary.flagged, "flagged"))
    if any(number for number, _ in said):
        told = ", ".join(f"{number} {word}" for number, word in said if number)
        table.add_row("flags", f"{told}; `headrace flag DIR` lists them")
    if summary.index_range:
        table.add_row("indices", "{} to {}".format(*summary.index_range) + f"; missing: {ranges(summary.missing)}")
    table.add_row("steps", f"{summary.steps} ({summary.steps / spec.rate_hz:.1f} s simulated), {summary.frames} frames")
    ratio = f", {summary.raw_bytes / summary.stored_bytes:.1f} times smaller" if summary.stored_bytes else ""
    table.add_row("size", f"{megabytes(summary.stored_bytes)} of {megabytes(summary.raw_bytes)} raw{ratio}")
    _add_times(table, summary)
    _add_shards(table, summary)
    return table


def _add_times(table: Table, summary: StreamSummary) -> None:
    if summary.first_commit_ns and summary.last_commit_ns:
        rate = summary.episodes_per_hour
        per_hour = f"; {rate:.1f} episodes/h" if rate is not None else ""
        first, last = local_time(summary.first_commit_ns), local_time(summary.last_commit_ns)
        table.add_row("commits", f"{first} to {last}{per_hour}")


def _add_shards(table: Table, summary: StreamSummary) -> None:
    disk = sum(shard.disk_bytes for shard in summary.shards)
    sealed = sum(shard.sealed for shard in summary.shards)
    packed = sum(shard.packing is not None for shard in summary.shards)
    state = f"{sealed} of them sealed" + (f" and {packed} packed" if packed else "")
    table.add_row("shards", f"{len(summary.shards)}, {state}, {megabytes(disk)} reserved on disk")
    shown = summary.shards[-MAX_SHARDS:]
    if len(shown) < len(summary.shards):
        table.add_row("", f"… {len(summary.shards) - len(shown)} before these")
    for shard in shown:
        state = "packed" if shard.packing else "sealed" if shard.sealed else "open"
        table.add_row("", f"{shard.path.name}  {state:<6}  {100 * shard.fill:3.0f} % full  {shard.episodes} episodes")


def _episode_table(summary: StreamSummary) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    names = ("index", "outcome", "steps", "seed", "frames [MB]", "took [s]", "committed", "producer", "shard", "row")
    for name in names:
        table.add_column(name, justify="left" if name in ("outcome", "committed", "producer") else "right")
    table.add_column("flags", overflow="fold", max_width=60)
    colours = {"success": "green", "failure": "yellow", "void": "red"}
    for row in summary.rows:
        outcome = Text(row["outcome"], style=colours[row["outcome"]])
        left = (str(row["index"]), outcome, str(row["steps"]), str(row["seed"]))
        middle = (f"{row['frames_bytes'] / 1e6:.2f}", f"{row['seconds']:.1f}", local_time(row["committed_ns"]))
        flags = "\n".join(f"{name}: {row[name]}" for name in ("discarded", "flagged") if row[name])
        table.add_row(*left, *middle, Text(row["producer"]), str(row["shard"]), str(row["row"]), Text(flags))
    return table


def local_time(unix_ns: int) -> str:
    """In this machine's time zone, to the second."""
    return datetime.fromtimestamp(unix_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")
