"""`python -m producers.bench.swarm`: a thousand producers in one process, each with a connection of its own.

Each has the delivery machine of a real producer; what they share is one thread, so that a small machine can hold them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
import zmq

from producers.bench.load import CAMERA
from producers.bench.member import Member
from producers.episode import Episode
from protocol.errors import ConfigurationError
from protocol.jpeg import DEFAULT_QUALITY
from protocol.spec import Camera, Column, StreamSpec

_TICK_S = 0.2
_POLL_MS = 5


@dataclass(frozen=True)
class SwarmFlags:
    """Many producers, few episodes each."""

    sink: str
    """Endpoint of the sink."""
    frames: Path
    """Directory of JPEG files, all of one size; they are published in turn."""
    producers: int = 1000
    """How many."""
    episodes: int = 200
    """Publish this many in all."""
    rate: float = 20.0
    """Episodes a second, all producers together; 0: each as fast as its credit lets it [1/s]."""
    steps: int = 10
    """Steps of an episode, one frame each."""
    height: int = 64
    """Of the frames [pixels]."""
    width: int = 64
    """Of the frames [pixels]."""
    wait: Path | None = None
    """Begin when this file exists; the producers connect before."""


class Swarm:
    """All members, and when their episodes ended and were acknowledged, time.time() [s]."""

    def __init__(self, flags: SwarmFlags, frames: Sequence[bytes]) -> None:
        self.ended: dict[int, float] = {}
        self.acked: dict[int, float] = {}
        self._flags, self._frames = flags, frames
        cameras = (Camera(CAMERA, flags.height, flags.width),)
        self._spec = StreamSpec("bench/swarm", 50.0, flags.steps, (Column("action", "float32", (14,)),), cameras)
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 2 * flags.producers + 64)  # a renewed one closes later
        self._poller = zmq.Poller()
        self._members: dict[zmq.Socket[bytes], Member] = {}
        for number in range(flags.producers):
            member = Member(self._context, flags.sink, f"swarm-{number}", self._spec)
            member.want()
            self._register(member)
        self._tick_at = 0.0

    @property
    def sessions(self) -> int:
        """Sessions opened so far; one a producer if nothing broke."""
        return sum(member.sessions for member in self._members.values())

    def connect(self) -> None:
        """Until each has a lease."""
        while not all(member.granted for member in self._members.values()):
            self._turn()

    def idle(self, wait: Path) -> None:
        """Until a file exists; heartbeats go on."""
        while not wait.exists():
            self._turn()

    def publish(self) -> None:
        """All episodes, and wait until they are acknowledged."""
        began, started = time.monotonic(), 0
        members = list(self._members.values())
        turn = 0
        while len(self.acked) < self._flags.episodes:
            due = self._flags.episodes
            if self._flags.rate:
                due = min(due, int((time.monotonic() - began) * self._flags.rate) + 1)
            for _ in range(len(members)):
                if started >= due:
                    break
                member = members[turn % len(members)]
                turn += 1
                if member.granted:
                    self._record(member, started)
                    started += 1
            self._turn()

    def leave(self) -> None:
        """Say Bye for all."""
        for member in self._members.values():
            member.leave()
        self._context.term()

    def _record(self, member: Member, number: int) -> None:
        index = member.granted.popleft()
        member.want()
        action = np.zeros(14, np.float32)
        with Episode(member, index, self._spec, DEFAULT_QUALITY) as episode:
            for step in range(self._flags.steps):
                frame = self._frames[(number + step) % len(self._frames)]
                episode.step({"action": action}, {CAMERA: frame})
            episode.finish(success=True)
        member.flush()
        self.ended[index] = time.time()

    def _turn(self) -> None:
        for socket, _ in self._poller.poll(_POLL_MS):
            member = self._members[socket]
            member.receive()
            while member.committed:
                self.acked[member.committed.pop()] = time.time()
            member.flush()
        if time.monotonic() >= self._tick_at:
            self._tick_at = time.monotonic() + _TICK_S
            for member in list(self._members.values()):
                member.tick(self._renewed)
                member.flush()

    def _register(self, member: Member) -> None:
        self._members[member.socket] = member
        self._poller.register(member.socket, zmq.POLLIN)

    def _renewed(self, member: Member, old: zmq.Socket[bytes]) -> None:
        self._poller.unregister(old)
        del self._members[old]
        self._register(member)


def main(argv: Sequence[str] | None = None) -> int:
    """Publish, and write {"ended": {index: s}, "acked": {index: s}, "sessions"} to stdout."""
    flags = tyro.cli(SwarmFlags, prog="producers.bench.swarm", args=argv)
    frames = [path.read_bytes() for path in sorted(flags.frames.glob("*.jpg"))]
    if not frames:
        raise ConfigurationError(f"{flags.frames}: expected JPEG files *.jpg, found none")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    swarm = Swarm(flags, frames)
    swarm.connect()
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    if flags.wait is not None:
        swarm.idle(flags.wait)
    swarm.publish()
    swarm.leave()
    json.dump({"ended": swarm.ended, "acked": swarm.acked, "sessions": swarm.sessions}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
