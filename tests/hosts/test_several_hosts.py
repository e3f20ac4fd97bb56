"""A sink on one host and producers on two others, far away: 20 ms each way, 1 % loss, 100 Mbit/s, keys.

HEADRACE_SOAK_PARTITION: length of a partition [s], 8 by default; from 20 s on the lease is 15 s, as usual, not 5 s.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from protocol.producer_delivery import MAX_HELLO_INTERVAL_S
from tests.fakes import CheckingReader
from tests.hosts.collection import SINK, Collection, longest_gap, rate
from tests.hosts.large_episodes import episode_bytes, large_episode
from tests.hosts.network import Network
from tests.hosts.wire import WireConfig

FAR = WireConfig(delay_s=0.02, loss=0.01, bits_per_s=100e6)
NEAR, OTHER = 1, 2
PARTITION_S = float(os.environ.get("HEADRACE_SOAK_PARTITION", "8"))
LEASE_S = 15.0 if PARTITION_S >= 20 else 5.0
HEARTBEAT_S = 1.0
MEASURE_S = 3.0
# TCP tries to connect at 0, 1, 3 and 7 s, and a new socket begins with 0; then come handshake, Hello and an episode.
BACK_S = MAX_HELLO_INTERVAL_S + 30.0
MACHINES_OWN = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def check_content(collection: Collection) -> CheckingReader:
    """Every index once, without a gap, whole, and everything that was acknowledged is there."""
    reader = CheckingReader(collection.data, collection.spec, large_episode)
    assert reader.indices == list(range(len(reader.indices))), "an index is missing"
    assert {entry.number for entry in collection.committed()} <= set(reader.indices)
    return reader


@pytest.mark.parametrize("congestion", sorted({"reno", MACHINES_OWN.read_text().strip()}))
def test_a_long_thin_link_is_used_and_everything_arrives_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], congestion: str
) -> None:
    config = WireConfig(**{**vars(FAR), "congestion": congestion})
    with Network(config) as network, Collection(network, tmp_path, steps=6) as collection:
        for host in (NEAR, OTHER):
            collection.add_producers(host, 2, step_s=0.0)
        collection.wait_for_commits(1, since=0.0, deadline_s=90)
        began = time.monotonic()
        collection.pause(MEASURE_S)
        reached = rate(collection.committed(), began, time.monotonic()) * episode_bytes(collection.spec) * 8
        collection.finish()
        counts = network.counts()
        reader = check_content(collection)
        resent = sum(entries[-1].number for p in collection.producers if (entries := p.entries("resent")))
    assert counts["lost"] > 0
    with capsys.disabled():
        print(  # noqa: T201 -- the figures are a result
            f"\n{congestion}: 4 producers reach {reached / 1e6:.1f} of {config.bits_per_s / 1e6:.0f} Mbit/s; "
            f"{counts['packets']} packets, {counts['lost']} lost, {counts.get('overflowed', 0)} not held by a queue; "
            f"{len(reader.indices)} episodes, {resent} sent again"
        )


def test_partitions_lose_nothing_double_nothing_and_stop_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--lease-s", str(LEASE_S))
    with Network(FAR) as network, Collection(network, tmp_path, 3, flags) as collection:
        for host in (NEAR, OTHER):
            collection.add_producers(host, 2, step_s=0.04)
        collection.wait_for_commits(2, since=0.0, deadline_s=90)
        told = [_cut_a_producer_host(collection), _cut_the_sink(collection)]
        collection.finish()
        reader = check_content(collection)
    told.append(f"{len(reader.indices)} episodes, each once")
    with capsys.disabled():
        print("\n" + "\n".join(told))  # noqa: T201 -- the figures are a result


def _cut_a_producer_host(collection: Collection) -> str:
    """Its indices go to the other host, which is not held up; then it comes back, and doubles nothing."""
    began = time.monotonic()
    collection.pause(MEASURE_S)
    before = rate(collection.committed(OTHER), began, time.monotonic())
    cut = time.monotonic()
    collection.network.cut(NEAR)
    collection.pause(PARTITION_S)
    held = {e.number for p in collection.on_host(NEAR) for e in p.entries("leased") if e.at < cut}

    def taken() -> set[int]:
        return held & {entry.number for entry in collection.committed(OTHER) if entry.at > cut}

    collection.wait(taken, "an index of the host that was cut off goes to the other")
    healed, others = time.monotonic(), collection.committed(OTHER)
    gap, during = longest_gap(others, cut, healed), rate(others, cut, healed)
    assert not [entry for entry in collection.committed(NEAR) if cut + 1 < entry.at < healed]
    # Whoever waited for the ones that are gone would wait until their leases are over.
    assert gap < LEASE_S - HEARTBEAT_S, "the other host was held up"
    assert during > before / 3, "the other host was slowed down"
    collection.network.join(NEAR)
    collection.wait_for_commits(2, since=healed, hosts=[NEAR], deadline_s=BACK_S + PARTITION_S)
    back = _first_sessions(collection, healed, NEAR)
    assert max(back) < BACK_S
    return (
        f"a producers' host without a network for {healed - cut:.0f} s: the other reached {during:.2f} episodes/s "
        f"({before:.2f} before), its longest wait was {gap:.2f} s with a lease of {LEASE_S:g} s; "
        f"{len(taken())} indices went to it; back {min(back):.1f} to {max(back):.1f} s after the heal"
    )


def _cut_the_sink(collection: Collection) -> str:
    """Everybody waits, and goes on by themselves."""
    cut = time.monotonic()
    collection.network.cut(SINK)
    collection.pause(PARTITION_S)
    healed = time.monotonic()
    assert not [entry for entry in collection.committed() if cut + 1 < entry.at < healed]
    collection.network.join(SINK)
    collection.wait_for_commits(2, since=healed, deadline_s=BACK_S + PARTITION_S)
    back = _first_sessions(collection, healed, NEAR, OTHER)
    assert max(back) < BACK_S
    return (
        f"the sink's host without a network for {PARTITION_S:g} s: "
        f"all go on {min(back):.1f} to {max(back):.1f} s after the heal"
    )


def _first_sessions(collection: Collection, healed: float, *hosts: int) -> list[float]:
    """How long after the heal each producer of these hosts had a session again [s]."""
    sessions = {p.name: [e.at for e in p.entries("session")] for h in hosts for p in collection.on_host(h)}
    assert all(before < after for times in sessions.values() for before, after in pairwise(times))
    return [min((at for at in times if at >= healed), default=healed) - healed for times in sessions.values()]
