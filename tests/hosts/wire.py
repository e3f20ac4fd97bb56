"""Hosts in network namespaces and the wire between them: IP packets that come late, or not at all, at a limited rate.

python -m tests.hosts.wire '{"hosts": 3, "delay_s": 0.02, "loss": 0.01, "bits_per_s": 1e8, "congestion": "reno"}'

Kernels without tc's netem cannot do this themselves, so this program is the network: each host has a TUN device whose
other end is here. Host n is 10.77.0.n. A packet waits in its host's queue, passes the host's link at its rate, is lost
or delayed, and passes the link of the host that it is for. TCP runs in the hosts' kernels and knows nothing of it.

stdin takes `cut N`, `join N` (all packets of host N vanish, or do not) and `count`; each is answered by a line of JSON.
Everything ends with this program, and it ends with stdin: the namespaces have no names and leave nothing behind.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.77.0"
# A queue holds what its link carries in this time [s]; what comes then is dropped, as by a switch.
QUEUE_S = 0.05
# While packets are under way, look at them this often [s].
_LOOK_S = 0.0005
_MTU = 1500
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@dataclass(frozen=True)
class WireConfig:
    """delay_s: one way [s]. loss: share of packets, each way. bits_per_s: of each host's link, each way.

    congestion: the TCP congestion control of the hosts. seed: of the losses.
    """

    hosts: int = 3
    delay_s: float = 0.0
    loss: float = 0.0
    bits_per_s: float = 1e8
    congestion: str = "reno"
    seed: int = 1


class _Link:
    """One direction of a host's cable: when it is free again."""

    def __init__(self, bits_per_s: float) -> None:
        self._bits_per_s, self._free_at = bits_per_s, 0.0

    def passes(self, now: float, size: int) -> float | None:
        """When the last bit of a packet is through; None: the queue is full."""
        if self._free_at - now > QUEUE_S:
            return None
        self._free_at = max(now, self._free_at) + 8 * size / self._bits_per_s
        return self._free_at


class Wire:
    """All hosts and what is under way between them."""

    def __init__(self, config: WireConfig) -> None:
        """Make the hosts. Raises OSError where that is not allowed."""
        self._config = config
        self._rng = random.Random(config.seed)
        self.namespaces: list[int] = []  # descriptors, by host
        self._devices: list[int] = []
        for host in range(config.hosts):
            self._add_host(host)
        self._up = [_Link(config.bits_per_s) for _ in range(config.hosts)]
        self._down = [_Link(config.bits_per_s) for _ in range(config.hosts)]
        self._cut = [False] * config.hosts
        self._counts: Counter[str] = Counter()
        self._number = itertools.count()
        # (when, number, it has passed the second link, the host it is for, packet)
        self._under_way: list[tuple[float, int, bool, int, bytes]] = []

    def _add_host(self, host: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"no network namespace: {os.strerror(number)}")
        self.namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"wire", _IFF_TUN | _IFF_NO_PI))
        self._devices.append(device)
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(self._config.congestion)
        address = f"{NETWORK}.{host + 1}/24"
        for words in ("link set lo up", f"link set wire mtu {_MTU} txqueuelen 2000 up", f"addr add {address} dev wire"):
            subprocess.run(["ip", *words.split()], check=True)

    def serve(self) -> None:
        """Carry packets until stdin ends."""
        looked = time.monotonic()
        while True:
            # What is found now came at some moment since the last look. With the first of them, a look that is late on
            # a busy machine takes nothing from the rate of the links.
            since, looked = looked, time.monotonic()
            busy = self._read_devices(since) or bool(self._under_way)
            self._forward()
            ready = select.select([sys.stdin, *(() if busy else self._devices)], [], [], _LOOK_S if busy else None)[0]
            if not busy:
                looked = time.monotonic()
            if sys.stdin in ready and not self._obey(sys.stdin.readline()):
                return

    def _obey(self, line: str) -> bool:
        if not line:
            return False
        word, _, host = line.strip().partition(" ")
        if word != "count":
            self._cut[int(host)] = word == "cut"
        print(json.dumps(self._counts), flush=True)  # noqa: T201 -- the answer
        return True

    def _read_devices(self, since: float) -> bool:
        found = False
        for host, device in enumerate(self._devices):
            with suppress(BlockingIOError):
                while True:
                    self._take(since, host, os.read(device, 2 * _MTU))
                    found = True
        return found

    def _take(self, came: float, host: int, packet: bytes) -> None:
        to = packet[19] - 1
        if packet[0] >> 4 != 4 or packet[16:19] != bytes(map(int, NETWORK.split("."))) or not 0 <= to < len(self._up):
            return  # IPv6 looking for neighbours, multicast
        self._counts["packets"] += 1
        passed = self._up[host].passes(came, len(packet))
        if self._cut[host]:
            self._counts["cut"] += 1
        elif passed is None:
            self._counts["overflowed"] += 1
        elif self._rng.random() < self._config.loss:
            self._counts["lost"] += 1
        else:
            there = max(passed, time.monotonic()) + self._config.delay_s
            heapq.heappush(self._under_way, (there, next(self._number), False, to, packet))

    def _forward(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            when, _, last, to, packet = heapq.heappop(self._under_way)
            if self._cut[to] or self._cut[packet[15] - 1]:
                self._counts["cut"] += 1
            elif last:
                os.write(self._devices[to], packet)
            elif (passed := self._down[to].passes(when, len(packet))) is None:
                self._counts["overflowed"] += 1
            else:
                heapq.heappush(self._under_way, (passed, next(self._number), True, to, packet))


def main(config: str) -> None:
    """Say {"namespaces": […]}, or {"refused": why}; then serve."""
    try:
        wire = Wire(WireConfig(**json.loads(config)))
    except (OSError, subprocess.CalledProcessError) as error:
        print(json.dumps({"refused": str(error)}), flush=True)  # noqa: T201
        return
    print(json.dumps({"namespaces": wire.namespaces}), flush=True)  # noqa: T201
    wire.serve()


if __name__ == "__main__":
    main(sys.argv[1])
