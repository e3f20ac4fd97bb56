"""The wire between the hosts of these tests is what they take it for."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from contextlib import suppress
from glob import glob

from tests.hosts.network import Network
from tests.hosts.wire import WireConfig

DATAGRAMS = 150
DELAY_S, LOSS = 0.02, 0.1
PORT = 5000

ECHO = f"""
import socket
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stream.bind(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    data, peer = stream.recvfrom(2000)
    stream.sendto(data, peer)
"""

# Sends one datagram every 5 ms to the address in argv; prints the round trips of those that came back [s].
CALL = f"""
import select, socket, sys, time
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stream.connect((sys.argv[1], {PORT}))
sent, trips, ends = [], [], time.monotonic() + 60
while len(sent) < {DATAGRAMS} or time.monotonic() < sent[-1] + 1:
    assert time.monotonic() < ends
    if len(sent) < {DATAGRAMS}:
        sent.append(time.monotonic())
        stream.send(b"%d" % (len(sent) - 1))
    if select.select([stream], [], [], 0.005)[0]:
        trips.append(time.monotonic() - sent[int(stream.recv(100))])
print(*trips)
"""

# Sends more than the link carries.
FLOOD = f"""
import socket, sys, time
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3000):
    stream.sendto(bytes(1000), (sys.argv[1], {PORT}))
    time.sleep(0.0001)
"""

# Prints the time between the first and the last datagram [s], and how many came in between.
DRAIN = f"""
import socket, time
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
stream.bind(("0.0.0.0", {PORT}))
print("ready", flush=True)
times = []
while not times or time.monotonic() < times[-1] + 1:
    stream.settimeout(2 if times else 60)
    try:
        stream.recv(2000)
    except TimeoutError:
        break
    times.append(time.monotonic())
print(times[-1] - times[0], len(times) - 1)
"""


def run(network: Network, host: int, program: str) -> str:
    command = [*network.on(host), sys.executable, "-c", program, network.address(0)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout


def test_packets_come_as_late_and_as_seldom_as_they_were_told_to() -> None:
    with Network(WireConfig(delay_s=DELAY_S, loss=LOSS)) as network:
        echo = subprocess.Popen([*network.on(0), sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
        with echo:
            try:
                assert echo.stdout is not None
                assert echo.stdout.readline() == "ready\n"
                trips = [float(word) for word in run(network, 1, CALL).split()]
                counts = network.counts()
                assert min(trips) >= 2 * DELAY_S
                assert statistics.median(trips) < 2 * DELAY_S + 0.02
                # Each is lost at most once, on its way there or back.
                assert len(trips) == DATAGRAMS - counts["lost"]
                there_and_back = DATAGRAMS * (1 - (1 - LOSS) ** 2)
                assert 0.5 * there_and_back < counts["lost"] < 1.5 * there_and_back
                network.cut(0)
                assert run(network, 1, CALL).split() == []
                after = network.counts()
                assert after["cut"] + after["lost"] - counts["lost"] == DATAGRAMS
            finally:
                echo.kill()


def test_a_link_carries_no_more_than_its_rate() -> None:
    """What its queue does not hold is dropped."""
    rate = 2e6
    with Network(WireConfig(bits_per_s=rate)) as network:
        drain = subprocess.Popen([*network.on(0), sys.executable, "-c", DRAIN], stdout=subprocess.PIPE, text=True)
        with drain:
            try:
                assert drain.stdout is not None
                assert drain.stdout.readline() == "ready\n"
                run(network, 1, FLOOD)
                seconds, count = map(float, drain.stdout.readline().split())
            finally:
                drain.kill()
        assert network.counts()["overflowed"] > 0
        # A datagram of 1000 bytes has 28 before it. What waited for a late look comes at once.
        assert 0.5 * rate < 8 * 1028 * count / seconds < 1.2 * rate


def test_hosts_end_with_their_wire() -> None:
    with Network(WireConfig()) as network:
        there = run(network, 2, "import os; print(os.readlink('/proc/self/ns/net'))").strip()
        assert there != os.readlink("/proc/self/ns/net")
        assert there in namespaces()
    assert there not in namespaces()


def namespaces() -> set[str]:
    """The network namespaces of all processes, and those that a process keeps open."""
    found = set()
    for path in [*glob("/proc/[0-9]*/ns/net"), *glob("/proc/[0-9]*/fd/*")]:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is not for us
            found.add(os.readlink(path))
    return found
