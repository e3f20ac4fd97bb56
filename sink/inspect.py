"""`headrace inspect`: what a dataset holds. Reads rows only, so it is quick, and it may run beside a sink."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from protocol.dataset_view import DatasetView, shard_paths
from protocol.errors import ConfigurationError, DatasetError
from protocol.flag_log import FlagLog
from protocol.flags import Place
from protocol.shard_view import ShardView
from sink.inspect_tables import show
from sink.namo_stream import choose_stream
from sink.stream_summary import StreamSummary

IDENTITY_NAME = "dataset.json"
# Width of a table that is not shown on a terminal [characters].
PLAIN_WIDTH = 160


@dataclass(frozen=True)
class InspectFlags:
    """List the streams of a dataset: schema, episodes by outcome, sizes, shards, missing indices, rates."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    json: bool = False
    """Print one JSON object instead: sizes in bytes, times in seconds and Unix nanoseconds."""
    episodes: bool = False
    """List every episode too: sizes in MB, times in seconds."""
    plan: int | None = None
    """Draw the plan of this index of a stream of `produce namo`: scene, pushes, what can be reached."""
    by_model_version: Path | None = None
    """Draw, as this PNG, how many NAMO searches were solved and how many pushes they tried, by the versions of the
    models that they asked."""
    stream: str | None = None
    """With --plan: which stream; not needed if there is one whose name begins with namo/. With --by-model-version: only
    this one."""
    out: Path | None = None
    """With --plan: a .png, or a .gif that moves; by default plan_INDEX.png."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print what DIR holds, or draw a plan. Raises ConfigurationError, DatasetError."""
    flags = tyro.cli(InspectFlags, prog="headrace inspect", args=argv)
    if flags.plan is not None:
        return _draw_plan(flags, flags.plan)
    if flags.by_model_version is not None:
        return _draw_versions(flags, flags.by_model_version)
    if flags.stream is not None or flags.out is not None:
        raise ConfigurationError("--stream and --out belong to --plan INDEX, which is missing")
    summaries = summarise(flags.data, keep_rows=flags.episodes)
    if flags.json:
        sys.stdout.write(json.dumps(to_json(flags.data, summaries), indent=2) + "\n")
        return 0
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    show(console, flags.data, summaries)
    return 0


def _draw_plan(flags: InspectFlags, index: int) -> int:
    from sink import plan_picture  # scipy and Pillow are for this only

    with DatasetView(flags.data) as view:
        list(view.new_episodes())
        stream = choose_stream(view, flags.stream)
        found = next((episode for episode in view.episodes(stream) if episode.index == index), None)
        if found is None:
            raise DatasetError(f"{flags.data}: {stream} has no index {index}; `headrace inspect --episodes` lists them")
        out = plan_picture.write(plan_picture.StoredPlan.of(found), flags.out or Path(f"plan_{index}.png"))
    sys.stdout.write(f"{out}\n")
    return 0


def _draw_versions(flags: InspectFlags, path: Path) -> int:
    from sink import model_versions

    with DatasetView(flags.data) as view:
        groups = model_versions.write(view, flags.stream, path)
    for group in groups:
        summary = group.summary
        share = (
            f"{summary.solved:.0%} ({summary.solved_low:.0%} to {summary.solved_high:.0%}) of {summary.searches} solved"
        )
        name = group.name.replace("\n", ", ")
        sys.stdout.write(f"{name}: {share}, pushes tried (median): {group.median_pushes:g}\n")
    sys.stdout.write(f"{path}\n")
    return 0


def summarise(root: Path, keep_rows: bool = False) -> list[StreamSummary]:
    """Every stream of a dataset, by name; empty if nothing was stored yet. Raises DatasetError if it is no dataset."""
    paths = shard_paths(root)
    _check_is_dataset(root, paths)
    summaries: dict[str, StreamSummary] = {}
    for path in paths:
        try:
            with ShardView(path) as shard:
                name = shard.spec.name
                if name not in summaries:
                    flags = FlagLog(root / name, Place(shard.layout.dataset_uuid, name))
                    flags.refresh()
                    summaries[name] = StreamSummary(shard.spec, keep_rows, flags=flags)
                summaries[name].add(shard)
        except DatasetError:
            if path.exists():  # otherwise: the sink prepared it, did not need it and took it away
                raise
    return [summaries[name] for name in sorted(summaries)]


def to_json(root: Path, summaries: Sequence[StreamSummary]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"data": str(root), "time_ns": time.time_ns(), "streams": [summary.to_dict() for summary in summaries]}


def _check_is_dataset(root: Path, paths: Sequence[Path]) -> None:
    found = sorted(path.name for path in root.iterdir())
    if not paths and found and IDENTITY_NAME not in found:
        listed = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise DatasetError(
            f"{root} is no dataset: expected {IDENTITY_NAME} and shards like STREAM/000000.h5, found {listed}; "
            "give the directory that `headrace sink --data` was given"
        )


if __name__ == "__main__":
    sys.exit(main())
