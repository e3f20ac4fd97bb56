"""What every engine tells programs that nobody watches: how long they may take to end, what memory they may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.roles import Kind, Role
from deploy.topology import Topology
from protocol.errors import ConfigurationError

# How long each kind takes to drain, at most, and as much again [s].
STOP_S: Mapping[Kind, int] = {"sink": 90, "inference": 60, "producers": 60, "trainer": 300}
# Each worker is one core; libraries' own threads would only take turns with it.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The sink's own bound leaves out the page cache, which the kernel counts too where it limits a program [MiB].
_SINK_SPARE_MIB = 512


def unless_there(path: Path, words: Iterable[str]) -> list[str]:
    """A command that does nothing if the path is there. Path and words reach the shell as they are."""
    return ["/bin/sh", "-c", '[ -e "$0" ] || exec "$@"', str(path), *words]


def resuming(path: Path, words: Iterable[str]) -> list[str]:
    """A command with --resume if the path is there. Path and words reach the shell as they are."""
    return ["/bin/sh", "-c", 'if [ -e "$0" ]; then exec "$@" --resume; fi; exec "$@"', str(path), *words]


def memory_mib(role: Role, topology: Topology) -> int | None:
    """What the kernel lets a role have, page cache included. Raises ConfigurationError if the sink needs more."""
    found = role.resources.memory_mib
    if role.kind != "sink":
        return found
    least = topology.sink.memory_mib + _SINK_SPARE_MIB
    if found is not None and found < least:
        raise ConfigurationError(
            f"[sink.resources] memory_mib {found} is too little: the sink's own bound is {topology.sink.memory_mib}, "
            f"and the page cache counts too; expected at least {least}"
        )
    return found or least
