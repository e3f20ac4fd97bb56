"""How fast a stream grows, how often it succeeds, and when its goal is met, from what was committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.messages import Outcome
from protocol.success_rate import wilson_interval
from sink.page.stream_table import UNKNOWN_BYTES, StreamTable

# Episodes can take a minute each; a shorter window would say 0 in between.
WINDOW_S = 300.0
HISTORY_MINUTES = 60
LAST = 100


@dataclass(frozen=True)
class Rates:
    """Of the last WINDOW_S seconds; without two commits in it all are 0."""

    episodes_per_hour: float = 0.0
    successes_per_hour: float = 0.0
    frames_per_s: float = 0.0
    mb_per_s: float = 0.0


def rates(table: StreamTable, now_ns: int) -> Rates:
    """Between the first commit of the window and now: what came after that first one."""
    recent = _since(table, now_ns - int(WINDOW_S * 1e9))
    real = recent[recent["outcome"] != int(Outcome.VOID)]
    if len(real) < 2:
        return Rates()
    seconds = max((now_ns - int(real[0]["committed_ns"])) / 1e9, 1.0)
    new = real[1:]
    known = new["frames_bytes"][new["frames_bytes"] != UNKNOWN_BYTES]
    column_bytes = int(new["steps"].sum(dtype=np.int64)) * table.spec.row_bytes
    return Rates(
        episodes_per_hour=len(new) / seconds * 3600,
        successes_per_hour=int((new["outcome"] == int(Outcome.SUCCESS)).sum()) / seconds * 3600,
        frames_per_s=int(new["steps"].sum(dtype=np.int64)) * len(table.spec.cameras) / seconds,
        mb_per_s=(int(known.sum(dtype=np.int64)) + column_bytes) / seconds / 1e6,
    )


def success(table: StreamTable) -> dict[str, Any]:
    """Of all committed indices and of the last hundred, with Wilson's 95 % interval; None without any."""
    count, last = len(table), table.entries[-LAST:]
    good = int((last["outcome"] == int(Outcome.SUCCESS)).sum())
    return {
        "all": _share(table.outcomes[Outcome.SUCCESS], count),
        "last": _share(good, len(last)),
        "last_of": len(last),
    }


def _share(good: int, count: int) -> dict[str, float] | None:
    if not count:
        return None
    low, high = wilson_interval(good, count)
    return {"rate": good / count, "low": low, "high": high}


def history(table: StreamTable, now_ns: int) -> list[int]:
    """Episodes of each of the last HISTORY_MINUTES minutes, the oldest first; the last minute is not over."""
    minute = 60_000_000_000
    last = now_ns // minute
    first = last - HISTORY_MINUTES + 1
    recent = _since(table, first * minute)
    minutes = (recent["committed_ns"] // minute).astype(np.int64) - first
    inside = minutes[(minutes >= 0) & (minutes < HISTORY_MINUTES)]
    counts: list[int] = np.bincount(inside, minlength=HISTORY_MINUTES).tolist()
    return counts


def seconds_left(table: StreamTable, goal: dict[str, Any] | None, found: Rates) -> float | None:
    """Until the goal is met at the rate of the last minutes; None if that cannot be told."""
    if goal is None:
        return None
    done = table.outcomes[Outcome.SUCCESS] if goal["of"] == "successes" else len(table)
    per_hour = found.successes_per_hour if goal["of"] == "successes" else found.episodes_per_hour
    if done >= goal["count"]:
        return 0.0
    return (goal["count"] - done) / per_hour * 3600 if per_hour else None


def by_producer(table: StreamTable, now_ns: int) -> dict[str, dict[str, Any]]:
    """Of each producer that committed in the window: episodes an hour, and its last one."""
    recent = _since(table, now_ns - int(WINDOW_S * 1e9))
    found: dict[str, dict[str, Any]] = {}
    for number in np.unique(recent["producer"]).tolist():
        own = recent[recent["producer"] == number]
        seconds = max((now_ns - int(own[0]["committed_ns"])) / 1e9, 1.0)
        found[table.producers.all[number]] = {
            "episodes_per_hour": (len(own) - 1) / seconds * 3600,
            "last_index": int(own[-1]["index"]),
            "last_outcome": Outcome(int(own[-1]["outcome"])).name.lower(),
            "last_ns": int(own[-1]["committed_ns"]),
        }
    return found


def _since(table: StreamTable, time_ns: int) -> NDArray[np.void]:
    """The entries from the first that was committed at `time_ns` or later; times only grow, but for clocks set back."""
    times = table.entries["committed_ns"]
    return table.entries[int(np.searchsorted(times, np.uint64(max(time_ns, 0)))) :]
