"""How far a collection is: from the sink's /status where that can be reached, otherwise from the dataset itself."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.topology import Producers, Topology
from protocol.announcement import plain_host, read_announcement
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, DatasetError
from protocol.messages import Outcome

_TIMEOUT_S = 3.0
# Throughput and producers are those of the last while [s].
WINDOW_S = 300.0


@dataclass(frozen=True)
class StreamProgress:
    """goal: successes, or None where nothing is known of it."""

    name: str
    episodes: int
    successes: int
    goal: int | None
    per_hour: float


@dataclass(frozen=True)
class Progress:
    """source: where it is from. producers: those that are connected, or of which something was committed lately."""

    source: str
    streams: tuple[StreamProgress, ...] = ()
    producers: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())


def progress_of(topology: Topology) -> Progress:
    """Never fails because something is not there yet."""
    return _from_sink(topology) or _from_dataset(topology)


def _from_sink(topology: Topology) -> Progress | None:
    """HTTP has no keys and so is for the sink's own machine only."""
    try:
        sink = read_announcement(topology.folder / "sink.json")
    except ConfigurationError:
        return None
    if sink.stopped is not None or sink.http is None or sink.host != plain_host(socket.gethostname()):
        return None
    try:
        with urllib.request.urlopen(f"http://{sink.http}/status", timeout=_TIMEOUT_S) as answer:
            status: dict[str, Any] = json.load(answer)
    except (OSError, ValueError):
        return None
    goals = _goals(topology)
    streams = [
        StreamProgress(
            name,
            totals["episodes"],
            totals["successes"],
            totals["goal_successes"] or goals.get(name),
            totals["episodes_per_hour"],
        )
        for name, totals in status["streams"].items()
    ]
    names = tuple(sorted(each["name"] for each in status["producers"]))
    return Progress(f"the sink at {sink.http}", tuple(streams), names, (*status["problems"], *status["warnings"]))


def _from_dataset(topology: Topology) -> Progress:
    root = Path(topology.sink.data)
    if not root.is_dir():
        return Progress(str(root), problems=(f"{root} is not there yet",))
    since_ns = time.time_ns() - int(WINDOW_S * 1e9)
    goals, producers, streams = _goals(topology), set[str](), dict[str, list[Any]]()
    try:
        with DatasetView(root) as view:
            view.refresh()
            for shard in view.shards.values():
                streams.setdefault(shard.spec.name, []).append(shard.rows)
    except DatasetError as error:
        return Progress(str(root), problems=(str(error),))
    found = []
    for name, parts in sorted(streams.items()):
        rows = np.concatenate(parts)
        lately = rows[rows["committed_ns"] > since_ns]
        producers |= {bytes(text).decode(errors="replace") for text in np.unique(lately["producer"])}
        successes = int((rows["outcome"] == int(Outcome.SUCCESS)).sum())
        kept = int((lately["outcome"] != int(Outcome.VOID)).sum())
        found.append(StreamProgress(name, len(rows), successes, goals.get(name), kept * 3600 / WINDOW_S))
    return Progress(str(root), tuple(found), tuple(sorted(producers)))


def _goals(topology: Topology) -> dict[str, int]:
    """Successes that producers are asked for, of the streams whose names the topology tells."""
    goals: dict[str, int] = {}
    for producers in topology.producers:
        name, successes = _stream(producers), producers.flags.get("episodes")
        if name is not None and isinstance(successes, int):
            goals[name] = max(successes, goals.get(name, 0))
    return goals


def _stream(producers: Producers) -> str | None:
    if "stream" in producers.flags:
        return str(producers.flags["stream"])
    if producers.simulator == "robosuite":
        return f"robosuite/{producers.flags.get('env', 'PickPlaceCan')}"
    return None
