"""What is simulated: the machine, its network, the producers."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages import Goal
from protocol.spec import Camera, Column, StreamSpec

PIECES = 5  # Frames messages of an episode, one step each
SPEC = StreamSpec("scale/episodes", 20.0, PIECES, (Column("state", "float32", (4,)),), (Camera("front", 480, 640),))
ATTRIBUTES = b'{"success":true}'
STATES = bytes(16 * PIECES)


@dataclass(frozen=True)
class Settings:
    """The disk is as fast as makes `demand` of it; so the rhythm of one producer is the same for any number of them.

    piece_bytes: payload of one Frames message. work_s: to make an episode, ± a third. demand: what all could send, in
    parts of what the disk takes. commit_s: of one group. delay_s: of the network, longest one way. network: bytes a
    second into the sink. message_s, hello_s: what the sink's thread takes for one message [s]. reconnect_s: how long
    after a restart the slowest connection is there again. episodes: the goal, of each producer.
    """

    producers: int
    episodes: int = 12
    seed: int = 1
    piece_bytes: int = 200_000
    work_s: float = 5.0
    demand: float = 1.5
    commit_s: float = 0.002
    delay_s: float = 0.005
    network: float = 25e9 / 8
    message_s: float = 30e-6
    hello_s: float = 150e-6
    reconnect_s: float = 0.1
    window_bytes: int = 1 << 20
    heartbeat_s: float = 1.0
    lease_s: float = 15.0

    @property
    def disk(self) -> float:
        """Bytes a second."""
        return self.producers * PIECES * self.piece_bytes / (self.work_s * self.demand)

    @property
    def goal(self) -> Goal:
        """Of every producer."""
        return Goal(end=self.producers * self.episodes)
