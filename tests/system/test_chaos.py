"""Hurt everything, many times, and count: each index once and whole, nothing acknowledged missing, no gap.

HEADRACE_SOAK_FAULTS: how many faults, 30 by default; each thirty have all kinds. HEADRACE_SOAK_SEED: their order.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import SUCCESS, CheckingReader, counted_episode, counting_spec, first_successes
from tests.processes import Process
from tests.system.cluster import Cluster
from tests.system.faults import FAULTS, Fault

SPEC = counting_spec()
COUNT = int(os.environ.get("HEADRACE_SOAK_FAULTS", "30"))
SEED = int(os.environ.get("HEADRACE_SOAK_SEED", "1"))
PRODUCERS = 8
STEP_S = 0.03
# Seconds between two faults; most of them last longer, so that several are at work at the same time.
PAUSES_S = (0.0, 0.2, 0.4, 0.8)
# After so many faults the collection has to have gone on by so many acknowledgements.
ROUND, ACKS_A_ROUND = 5, 10


def deck(rng: random.Random, count: int) -> list[Fault]:
    """The faults in order."""
    cards: list[Fault] = []
    while len(cards) < count:
        thirty = [fault for fault in FAULTS for _ in range(fault.share)]
        assert len(thirty) == 30
        rng.shuffle(thirty)
        cards += thirty
    return cards[:count]


def complete(cluster: Cluster) -> list[int]:
    """Lift all faults, fill every gap, go on by twenty successes; returns the successes that there must be."""
    cluster.finish()
    last = max(cluster.acked)
    goal = sum(counted_episode(SPEC, index).outcome == SUCCESS for index in range(last + 1)) + 20
    endpoint = f"tcp://127.0.0.1:{cluster.port}"
    producers: list[Process] = [cluster.start_producer(endpoint, goal, cluster.sink_clock) for _ in range(3)]
    try:
        for producer in producers:
            assert producer.wait() == 0, producer.output
    finally:
        for producer in producers:
            producer.kill()
    cluster.end()
    return list(first_successes(SPEC, goal))


def table(cluster: Cluster, faults: Counter[str], reader: CheckingReader) -> str:
    counts = {
        **{f"fault: {name}": count for name, count in sorted(faults.items())},
        "faults": sum(faults.values()),
        "lives of the sink": cluster.sinks,
        "producers": len(cluster.records),
        "sessions": cluster.total("sessions"),
        "episodes sent again": cluster.total("resent"),
        "indices lost to others": cluster.said("lost"),
        "told of a full disk": cluster.said("full"),
        **dict(sorted(cluster.counts.items())),
        "acknowledged": len(cluster.acked),
        "indices on disk": len(reader.indices),
        "shards": len(reader.paths()),
        "seconds": round(time.monotonic() - cluster.began),
    }
    return "\n".join(f"{count:8d}  {name}" for name, count in counts.items())


@pytest.mark.timeout(120 + 6 * COUNT)
def test_whatever_breaks_each_index_is_on_disk_once_and_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    faults: Counter[str] = Counter()
    with capsys.disabled():
        print(f"\n{COUNT} faults, seed {SEED}, logs in {tmp_path / 'logs'}")  # noqa: T201
    cluster = Cluster(tmp_path, PRODUCERS, STEP_S, quota_mib=200 + 2 * COUNT, seed=SEED)
    order = (tmp_path / "logs" / "faults.log").open("w")
    try:
        cluster.wait(lambda: cluster.acks >= ACKS_A_ROUND, "the collection begins")
        before = cluster.acks
        for number, fault in enumerate(deck(rng, COUNT), 1):
            place = rng.randrange(PRODUCERS)
            print(f"{time.monotonic() - cluster.began:8.2f} {fault.name}, producer {place}", file=order, flush=True)
            fault.inflict(cluster, cluster.places[place])
            faults[fault.name] += 1
            cluster.pause(rng.choice(PAUSES_S))
            if number % ROUND == 0:
                target = before + ACKS_A_ROUND
                cluster.wait(lambda target=target: cluster.acks >= target, f"the collection goes on after {fault.name}")
                before = cluster.acks
        wanted = complete(cluster)
    finally:
        order.close()
        cluster.close()
    reader = CheckingReader(cluster.data)
    assert reader.successes == wanted
    assert reader.indices == list(range(wanted[-1] + 1)), "an index is missing, or there is one beyond the goal"
    assert cluster.acked <= set(reader.indices)
    assert sum(faults.values()) == COUNT
    with capsys.disabled():
        print(table(cluster, faults, reader))  # noqa: T201 -- the counts are the result
