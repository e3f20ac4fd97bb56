"""Ending actors in their order: producers commit what is whole, trainers and servers follow, the sink is last."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.ray.report import read_report

if TYPE_CHECKING:
    from deploy.ray.cluster import Cluster

CONDUCTOR = "conductor"
# By the beginnings of their names, which are those of roles.
_PHASES = (("producers", "producers-"), ("trainers", "train-"), ("inference server", "inference"), ("sink", "sink"))
# Programs that were asked to stop take up to 40 s.
_DRAIN_LIMIT_S = 120.0
_LOOK_S = 0.2


def drain_all(cluster: Cluster, folder: Path, generation: int, say: Callable[[str], None]) -> None:
    """Returns when no actor with a program is left. Those that wait for their turn need not begin."""
    for who, beginning in _PHASES:
        names = {name for name in cluster.names() if name.startswith(beginning)}
        begun = {name for name in names if read_report(folder, name, generation) is not None}
        for name in names - begun:
            cluster.end(name)
        if begun:
            say(f"{who}: asked {len(begun)} to stop")
        _wait(cluster, names, say)


def _wait(cluster: Cluster, names: set[str], say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _DRAIN_LIMIT_S
    while left := cluster.names() & names:
        if time.monotonic() > deadline:
            say(f"{', '.join(sorted(left))} did not stop within {_DRAIN_LIMIT_S:.0f} s and is ended")
            end_all(cluster, left)
            return
        for name in left:
            cluster.ask_to_stop(name)
        time.sleep(_LOOK_S)


def end_all(cluster: Cluster, names: set[str]) -> None:
    """At once; returns when they are gone, and their programs a moment later."""
    for name in names:
        cluster.end(name)
    while cluster.names() & names:
        time.sleep(_LOOK_S)
