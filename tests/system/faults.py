"""Every kind of fault of the kill campaign, and how often each comes in thirty."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.system.bad_link import DIRECTIONS, UP
from tests.system.cluster import LEASE_S, Cluster, Place

DAY_S = 86_400


@dataclass(frozen=True)
class Fault:
    """share: of thirty. Returns at once, but for those that look at what the fault does."""

    name: str
    share: int
    inflict: Callable[[Cluster, Place], None]


def _kill_sink(cluster: Cluster, _: Place) -> None:
    cluster.end_sink(kill=True)
    cluster.start_sink()


def _kill_starting_sink(cluster: Cluster, _: Place) -> None:
    cluster.end_sink(kill=True)
    cluster.start_sink()
    cluster.pause(cluster.rng.uniform(0.1, 0.9))
    cluster.end_sink(kill=True)
    cluster.start_sink()


def _terminate_sink(cluster: Cluster, _: Place) -> None:
    cluster.health()  # before that, SIGTERM is not handled
    cluster.end_sink(kill=False)
    cluster.start_sink()


def _kill_all(cluster: Cluster, _: Place) -> None:
    for place in cluster.places:
        cluster.kill_producer(place)


def _kill_both(cluster: Cluster, place: Place) -> None:
    cluster.kill_producer(place)
    _kill_sink(cluster, place)


def _stop_sink(cluster: Cluster, _: Place) -> None:
    cluster.stop_sink(cluster.rng.uniform(1.5, 3) * LEASE_S)


def _stop_producer(cluster: Cluster, place: Place) -> None:
    cluster.stop_producer(place, cluster.rng.uniform(1.2, 3) * LEASE_S)


def _flip(cluster: Cluster, place: Place) -> None:
    cluster.garbled = True
    place.link.flip()


def _repeat(cluster: Cluster, place: Place) -> None:
    cluster.garbled = True
    place.link.repeat(cluster.rng.choice(DIRECTIONS))


def _jump(cluster: Cluster, place: Place) -> None:
    clock = cluster.rng.choice((cluster.sink_clock, place.clock))
    draft = clock.with_suffix(".draft")
    draft.write_text(str(cluster.rng.randint(-DAY_S, DAY_S)))
    os.replace(draft, clock)


def _fill_disk(cluster: Cluster, _: Place) -> None:
    """Until the producers wait; everybody has to be told, and freeing the space has to be enough."""
    cluster.wait(lambda: cluster.health()[0] == 200, "the sink is well before its disk is filled")
    told = cluster.said("full")
    filler = cluster.data / "filler"
    taken = int(subprocess.run(["du", "-s", "-B1", cluster.data], check=True, capture_output=True).stdout.split()[0])
    left = (cluster.quota_mib << 20) - taken
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(left, 1))
    cluster.wait(lambda: cluster.health()[0] == 503, "/healthz says that the disk is full", 90)
    assert "disk full: " in cluster.health()[1]
    assert any("ERROR" in line and "disk full: " in line for line in cluster.sink.lines), cluster.sink.output
    cluster.wait(lambda: cluster.said("full") > told, "the producers are told")
    cluster.counts["warned before"] += "will have to wait when its shard is full" in cluster.sink.output
    if cluster.rng.random() < 0.5:  # it comes back to a disk that is as full as before
        cluster.end_sink(kill=True)
        cluster.start_sink()
        cluster.wait(lambda: cluster.health()[0] == 503, "/healthz says so again after a restart", 90)
        cluster.counts["restarts on a full disk"] += 1
    filler.unlink()
    before = cluster.acks
    cluster.wait(lambda: cluster.health() == (200, "ok\n"), "/healthz is content again")
    cluster.wait(lambda: cluster.acks > before, "the collection goes on")


def _reset(_: Cluster, place: Place) -> None:
    place.link.cut(reset=True)


def _close(_: Cluster, place: Place) -> None:
    place.link.cut(reset=False)


def _delay(_: Cluster, place: Place) -> None:
    place.link.delay(3.0, 0.3)


def _truncate_up(_: Cluster, place: Place) -> None:
    place.link.truncate(UP)


def _stall_one_way(cluster: Cluster, place: Place) -> None:
    place.link.stall(cluster.rng.uniform(0.5, 3), cluster.rng.choice(DIRECTIONS))


def _stall_both_ways(cluster: Cluster, place: Place) -> None:
    place.link.stall(cluster.rng.uniform(0.5, 3), *DIRECTIONS)


def _swallow(cluster: Cluster, place: Place) -> None:
    place.link.swallow(cluster.rng.uniform(1, 3) * LEASE_S)


def _truncate(cluster: Cluster, place: Place) -> None:
    place.link.truncate(cluster.rng.choice(DIRECTIONS))


FAULTS = (
    Fault("kill the sink", 3, _kill_sink),
    Fault("kill the sink while it starts", 1, _kill_starting_sink),
    Fault("terminate the sink", 2, _terminate_sink),
    Fault("stop the sink beyond all leases", 1, _stop_sink),
    Fault("kill a producer", 4, Cluster.kill_producer),
    Fault("kill all producers", 1, _kill_all),
    Fault("kill sink and producer", 1, _kill_both),
    Fault("stop a producer beyond its lease", 2, _stop_producer),
    Fault("reset a connection", 2, _reset),
    Fault("close a connection", 1, _close),
    Fault("stall a connection one way", 1, _stall_one_way),
    Fault("stall a connection both ways", 1, _stall_both_ways),
    Fault("delay a connection", 1, _delay),
    Fault("swallow a network", 2, _swallow),
    Fault("truncate on the way up", 1, _truncate_up),
    Fault("truncate somewhere", 1, _truncate),
    Fault("repeat bytes", 2, _repeat),
    Fault("flip a bit", 1, _flip),
    Fault("full disk", 1, _fill_disk),
    Fault("clock jump", 1, _jump),
)
