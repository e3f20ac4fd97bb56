"""What goes on now, for the first screen: made at most once a second, however many browsers ask."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import DatasetError
from protocol.flag_log import FlagLog
from protocol.messages import Outcome
from sink.page import rates
from sink.page.catalogue import Catalogue
from sink.page.neighbours import InferenceWatch, sink_status
from sink.page.stream_table import StreamTable
from sink.page.training_log import TrainingLog

_KEPT_S = 1.0
_MOST_STREAMS = 64


@dataclass(frozen=True)
class Watched:
    """Whom the page asks besides the dataset. sink, inference: HOST:PORT of their --http. trainers: folders of runs."""

    sink: str | None = None
    inference: Sequence[str] = ()
    trainers: Sequence[Path] = ()


class Board:
    """Gathers it. Safe to use from several threads."""

    def __init__(self, catalogue: Catalogue, watched: Watched) -> None:
        self._catalogue, self._sink = catalogue, watched.sink
        self._inference = [InferenceWatch(address) for address in watched.inference]
        self._trainers = [TrainingLog(path) for path in watched.trainers]
        self._pool = ThreadPoolExecutor(max(len(self._inference) + (self._sink is not None), 1), "neighbours")
        self._lock = threading.Lock()
        self._made_at, self._latest = float("-inf"), dict[str, Any]()

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()

    def now(self) -> dict[str, Any]:
        """The latest picture. Raises DatasetError."""
        with self._lock:
            if time.monotonic() - self._made_at >= _KEPT_S:
                self._latest = self._make()
                self._made_at = time.monotonic()
            return self._latest

    def _make(self) -> dict[str, Any]:
        asked = self._pool.submit(sink_status, self._sink) if self._sink is not None else None
        looked = [self._pool.submit(watch.look) for watch in self._inference]
        self._catalogue.refresh()
        trainers = [trainer.look() for trainer in self._trainers]
        status = asked.result() if asked is not None else None
        now_ns = time.time_ns()
        with self._catalogue.lock:
            tables = dict(sorted(self._catalogue.tables.items()))
            names = _names(tables, status)
            streams = [_stream(tables.get(name), name, self._flags(name, tables), status, now_ns) for name in names]
            producers = _producers(tables, status, now_ns)
        disk = shutil.disk_usage(self._catalogue.root)
        return {
            "time_ns": now_ns,
            "uuid": self._catalogue.uuid,
            "dataset": str(self._catalogue.root),
            "disk_free_bytes": disk.free,
            "disk_total_bytes": disk.total,
            "sink": _sink(self._sink, status),
            "streams": streams,
            "producers": producers,
            "inference": [each.result() for each in looked],
            "trainers": trainers,
        }

    def _flags(self, stream: str, tables: Mapping[str, StreamTable]) -> FlagLog | None:
        """None if there are none to be had; whoever looks at the episodes is told why."""
        try:
            return self._catalogue.flags(stream) if stream in tables else None
        except DatasetError:
            return None


def _names(tables: Mapping[str, StreamTable], status: Mapping[str, Any] | None) -> list[str]:
    told = status.get("streams", {}) if status is not None else {}
    return sorted({*tables, *told})[:_MOST_STREAMS]


def _sink(address: str | None, status: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if status is None:
        return None
    if "trouble" in status:
        return {"address": address, "trouble": status["trouble"]}
    keys = ("uptime_s", "problems", "warnings", "in_flight_bytes", "credit_bytes", "producers_in_all")
    return {"address": address, "trouble": "", **{key: status.get(key) for key in keys}}


def _stream(
    table: StreamTable | None, name: str, flags: FlagLog | None, status: Mapping[str, Any] | None, now_ns: int
) -> dict[str, Any]:
    told = (status or {}).get("streams", {}).get(name, {})
    goal = _goal(told)
    if table is None:
        return {"name": name, "episodes": 0, "outcomes": {}, "goal": goal, "waits": told.get("waits", "")}
    found = rates.rates(table, now_ns)
    newest = table.newest()
    return {
        "name": name,
        "episodes": len(table),
        "outcomes": {outcome.name.lower(): count for outcome, count in table.outcomes.items()},
        "goal": goal,
        "left_s": rates.seconds_left(table, goal, found),
        "episodes_per_hour": found.episodes_per_hour,
        "frames_per_s": found.frames_per_s,
        "mb_per_s": found.mb_per_s,
        "discarded": len(flags.discarded()) if flags is not None else None,
        "success": rates.success(table),
        "history": rates.history(table, now_ns),
        "waits": told.get("waits", ""),
        "cameras": [{"name": each.name, "width": each.width, "height": each.height} for each in table.spec.cameras],
        "newest": _newest(table, newest),
    }


def _goal(told: Mapping[str, Any]) -> dict[str, Any] | None:
    for key, of in (("goal_successes", "successes"), ("goal_episodes", "episodes")):
        if isinstance(told.get(key), int):
            return {"count": told[key], "of": of}
    return None


def _newest(table: StreamTable, place: int | None) -> dict[str, Any] | None:
    if place is None:
        return None
    entry = table.entries[place]
    return {
        "uuid": table.shards[int(entry["shard"])].layout.dataset_uuid,
        "index": int(entry["index"]),
        "steps": int(entry["steps"]),
        "rate_hz": table.spec.rate_hz,
        "outcome": Outcome(int(entry["outcome"])).name.lower(),
        "committed_ns": int(entry["committed_ns"]),
    }


def _producers(
    tables: Mapping[str, StreamTable], status: Mapping[str, Any] | None, now_ns: int
) -> list[dict[str, Any]]:
    """Those with a session, or without a sink those that committed lately, with what they committed."""
    committed = {name: rates.by_producer(table, now_ns) for name, table in tables.items()}
    if status is None or "trouble" in status:
        return [
            {"name": producer, "stream": stream, **found}
            for stream, own in committed.items()
            for producer, found in sorted(own.items())
        ]
    nothing = dict[str, dict[str, Any]]()
    # A row has room for 64 bytes of the name.
    return [
        {**row, **committed.get(row.get("stream", ""), nothing).get(_stored_name(row), {})}
        for row in status["producers"]
        if isinstance(row, dict)
    ]


def _stored_name(row: Mapping[str, Any]) -> str:
    return str(row.get("name", "")).encode()[:64].decode(errors="replace")
