"""`headrace cancel` for a collection on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from deploy.ray.cluster import connected
from deploy.ray.draining import CONDUCTOR, drain_all, end_all
from deploy.ray.plan import namespace_of
from deploy.ray.report import read_report, write_report
from deploy.record import Record, unreachable
from deploy.topology import Topology
from protocol.errors import ConfigurationError


def cancel(topology: Topology, record: Record, now: bool, say: Callable[[str], None]) -> bool:
    """Returns when nothing of it is left; False if there was nothing. topology: with absolute paths.

    now: what was not acknowledged is lost. Raises RayError, ConfigurationError.
    """
    with connected(record.address, namespace_of(topology)) as cluster:
        there = cluster.names()
        end_all(cluster, there & {CONDUCTOR})  # which would begin what is ended here
        if now:
            end_all(cluster, cluster.names())
        else:
            drain_all(cluster, topology.folder, record.generation, say)
        _note(topology, record)
        return bool(there)


def _note(topology: Topology, record: Record) -> None:
    """The conductor cannot say any more that all has ended."""
    folder = topology.folder
    report = read_report(folder, CONDUCTOR, record.generation)
    if report is None or report.final:
        return
    try:
        ended = {"state": "COMPLETED", "reason": "cancelled", "ended_s": time.time()}
        write_report(folder, msgspec.structs.replace(report, **ended))
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
