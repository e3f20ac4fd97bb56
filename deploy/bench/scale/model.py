"""How many producers one sink serves, by what it has to do for each: a model with measured costs.

docs/scaling.md says where each number comes from. What a producer asks of a resource in a second, times the number of
producers, cannot be more than the resource has; so each gives a largest number, and the smallest of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from rich.table import Table

MIB = 1 << 20


@dataclass(frozen=True)
class Workload:
    """What one producer makes. episode_s: time for one; window: its share of the sink's memory [bytes]."""

    name: str
    episode_s: float
    frames: int
    frame_bytes: float
    other_bytes: float
    window: int

    @property
    def bytes(self) -> float:
        """Payload of an episode."""
        return self.frames * self.frame_bytes + self.other_bytes

    @property
    def messages(self) -> int:
        """Want, Begin, End, and Frames of 1 MiB."""
        return 3 + ceil(self.frames * self.frame_bytes / MIB)


@dataclass(frozen=True)
class Machine:
    """Where the sink runs. network, disk [bytes/s]; sync_s: one fdatasync; memory [bytes]; curve: with keys."""

    network: float = 0.94 * 25e9 / 8
    disk: float = 3e9
    sync_s: float = 0.5e-3
    memory: float = 64 * 2**30
    curve: bool = False


# Processor time of the sink's threads [s]: for a message, a frame, a byte, an episode.
LOOP_MESSAGE_S = 24e-6
LOOP_BYTE_S = 0.14e-9
WRITER_FRAME_S = 4e-6
WRITER_BYTE_S = 0.35e-9
WRITER_EPISODE_S = 0.1e-3
NETWORK_MESSAGE_S = 5e-6
NETWORK_BYTE_S = 0.2e-9
CURVE_BYTE_S = 1.5e-9
# Groups that a busy writer commits in a second, with two fdatasync each.
GROUPS_PER_S = 20
# Of the sink's memory (sink/resources.py).
PAYLOAD_SHARE = 0.8
CONNECTION_BYTES = 2 * 65_536
HEARTBEAT_S = 1.0

WORKLOADS = (
    Workload("robosuite, 480×640, two cameras", 5.83, 382, 66e3, 0.2e6, 1_850_000),
    Workload("robosuite, 84×84, two cameras", 2.31, 382, 3e3, 0.2e6, 1_100_000),
    Workload("NAMO searches", 2.81, 3, 10e3, 30e3, 262_144),
    Workload("a camera robot, 2 × 50 Hz, 480×640", 20.0, 2000, 66e3, 0.2e6, 1_850_000),
)


def demands(work: Workload, machine: Machine) -> dict[str, float]:
    """What one producer takes of each resource, as a share of it."""
    rate = 1 / work.episode_s
    size = rate * work.bytes
    messages = rate * work.messages + 1 / HEARTBEAT_S
    loop = messages * LOOP_MESSAGE_S + size * LOOP_BYTE_S
    writer = rate * (work.frames * WRITER_FRAME_S + WRITER_EPISODE_S) + size * WRITER_BYTE_S
    network_byte_s = NETWORK_BYTE_S + (CURVE_BYTE_S if machine.curve else 0.0)
    return {
        "interpreter": loop + writer,
        "writer": writer,
        "loop": loop,
        "zmq thread": messages * NETWORK_MESSAGE_S + size * network_byte_s,
        "network": size / machine.network,
        "disk": size / machine.disk / (1 - GROUPS_PER_S * 2 * machine.sync_s),
        "memory": (work.window / PAYLOAD_SHARE + CONNECTION_BYTES) / machine.memory,
    }


def most(work: Workload, machine: Machine) -> dict[str, int]:
    """The largest number of producers that each resource allows, the smallest first."""
    found = {name: int(1 / share + 1e-9) for name, share in demands(work, machine).items()}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def predictions() -> Table:
    """For people: every workload, without and with keys."""
    made = Table(title="producers that one sink serves, 25 Gbit/s, NVMe")
    for name in ("workload", "MB/s each", "first", "second", "third", "with keys"):
        made.add_column(name, justify="left" if name == "workload" else "right")
    for work in WORKLOADS:
        limits = list(most(work, Machine()).items())
        secured = next(iter(most(work, replace(Machine(), curve=True)).items()))
        rate = work.bytes / work.episode_s / 1e6
        made.add_row(work.name, f"{rate:.2f}", *(f"{name} {number}" for name, number in (*limits[:3], secured)))
    return made
