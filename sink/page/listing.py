"""The episodes that a filter lets through, the newest first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.flag_log import FlagLog
from protocol.messages import Outcome
from sink.page.catalogue import Catalogue, read_version
from sink.page.marks import marks
from sink.page.parameters import MARKS, Filter
from sink.page.stream_table import StreamTable


def listing(catalogue: Catalogue, asked: Filter) -> dict[str, Any]:
    """{episodes, total, choices: what can be filtered by}. Raises DatasetError if the dataset is gone."""
    catalogue.refresh()
    with catalogue.lock:
        tables = [table for name, table in sorted(catalogue.tables.items()) if asked.stream in (None, name)]
        flags = {table.spec.name: catalogue.flags(table.spec.name) for table in tables}
        found = [(table, _matching(table, asked, flags[table.spec.name])) for table in tables]
        return {
            "total": sum(len(places) for _, places in found),
            "episodes": [
                _described(table, place, flags[table.spec.name])
                for table, place in _newest(found, asked.skip, asked.count)
            ],
            "choices": _choices(catalogue, tables),
        }


def _has_mark(flags: FlagLog, indices: NDArray[np.uint64], mark: str) -> NDArray[np.bool_]:
    said = flags.flagged() if mark in ("flagged", "unflagged") else flags.discarded()
    found = np.isin(indices, np.array(said, np.uint64))
    return ~found if mark in ("unflagged", "kept") else found


def _matching(table: StreamTable, asked: Filter, flags: FlagLog) -> NDArray[np.int64]:
    entries, conditions = table.entries, []
    if asked.mark != "any":
        conditions.append(_has_mark(flags, entries["index"], asked.mark))
    if asked.outcome is not None:
        conditions.append(entries["outcome"] == int(asked.outcome))
    if asked.first is not None:
        conditions.append(entries["index"] >= np.uint64(asked.first))
    if asked.last is not None:
        conditions.append(entries["index"] <= np.uint64(asked.last))
    for wanted, names, field in (
        (asked.version, table.versions.all, "version"),
        (asked.producer, table.producers.all, "producer"),
    ):
        if wanted is not None:
            number = names.index(wanted) if wanted in names else -1
            conditions.append(entries[field].astype(np.int64) == number)
    return table.matching(conditions)


def _newest(found: list[tuple[StreamTable, NDArray[np.int64]]], skip: int, count: int) -> list[tuple[StreamTable, int]]:
    """Of all streams together: only the newest skip + count of each can be among them."""
    candidates = [places[: skip + count] for _, places in found]
    if not candidates:
        return []
    numbers = np.repeat(np.arange(len(found)), [len(places) for places in candidates])
    places = np.concatenate(candidates)
    times = np.concatenate(
        [table.entries["committed_ns"][places] for (table, _), places in zip(found, candidates, strict=True)]
    )
    # Of equal times the one that its stream has later comes first.
    chosen = np.lexsort((places, times))[::-1][skip : skip + count].tolist()
    return [(found[int(numbers[each])][0], int(places[each])) for each in chosen]


def _described(table: StreamTable, place: int, flags: FlagLog) -> dict[str, Any]:
    entry = table.entries[place]
    read_version(table, place)
    return {
        "uuid": table.shards[int(entry["shard"])].layout.dataset_uuid,
        "stream": table.spec.name,
        "index": int(entry["index"]),
        "outcome": Outcome(int(entry["outcome"])).name.lower(),
        "steps": int(entry["steps"]),
        "rate_hz": table.spec.rate_hz,
        "committed_ns": int(entry["committed_ns"]),
        "producer": table.producers.all[int(entry["producer"])],
        "model": table.versions.all[int(entry["version"])],
        "marks": marks(flags.of(int(entry["index"]))),
        "cameras": [camera.name for camera in table.spec.cameras],
    }


def _choices(catalogue: Catalogue, tables: list[StreamTable]) -> dict[str, Any]:
    return {
        "streams": sorted(catalogue.tables),
        "outcomes": [outcome.name.lower() for outcome in Outcome],
        "marks": [mark for mark in MARKS if mark != "any"],
        "versions": sorted({name for table in tables for name in table.versions.all[1:]}),
        # Until all attributes have been read, some episodes are missing when a version is asked for.
        "versions_known": sum(table.read_versions for table in tables),
        "versions_of": sum(len(table) for table in tables),
    }
