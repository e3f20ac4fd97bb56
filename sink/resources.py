"""How the memory and the descriptors that an operator allows are divided."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import ConfigurationError
from protocol.spec import MIN_WINDOW_BYTES

MIB = 1 << 20

# The interpreter and its libraries (about 40 MiB), documents, leases, and what comes before anyone can say no.
PROGRAM_BYTES = 96 * MIB
# Queues and buffers of libzmq for one connection, and what the sink knows of its session.
CONNECTION_BYTES = 64 * 1024
# Of the rest: frame tables of episodes under way, and what the allocator loses between blocks.
PAYLOAD_SHARE = 0.8
# Descriptors beside connections and shards: sockets, pipes, HTTP, connections that are about to be cut off.
SPARE_FILES = 256
FILES_A_STREAM = 4


@dataclass(frozen=True)
class MemoryPlan:
    """credit_bytes: for payload in flight. connections: how many at once."""

    credit_bytes: int
    connections: int


def plan_memory(memory_mib: int, producers: int, connections: int | None) -> MemoryPlan:
    """Divide the bound of the process. Raises ConfigurationError if no payload would be left for every producer."""
    connections = 2 * producers + 16 if connections is None else connections
    reserve = PROGRAM_BYTES + connections * CONNECTION_BYTES
    credit = int(((memory_mib * MIB) - reserve) * PAYLOAD_SHARE)
    least = MIN_WINDOW_BYTES * producers
    if credit < least:
        needed = -(-(reserve + int(least / PAYLOAD_SHARE) + 1) // MIB)
        raise ConfigurationError(
            f"--memory-mib {memory_mib} is too little: the program takes {PROGRAM_BYTES // MIB} MiB, {connections} "
            f"connections {connections * CONNECTION_BYTES / MIB:.0f} MiB, and {producers} producers need "
            f"{least / MIB:.0f} MiB of payload; expected at least {needed}, or fewer --max-producers"
        )
    return MemoryPlan(credit, connections)


def files_needed(connections: int, streams: int) -> int:
    """Open files that a sink may have at once."""
    return connections + FILES_A_STREAM * streams + SPARE_FILES
