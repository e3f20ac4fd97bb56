"""What a service manager hears of a sink: a datagram socket stands in for systemd, as sd_notify(3) allows."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.messages import Committed, Ping, Pong, Welcome
from serving import notify
from sink import daemon
from tests.fakes import CheckingReader
from tests.live_sink import GatedDisk, RunSink
from tests.processes import Process, SinkProcess, wait_until
from tests.raw_producer import RawProducer
from tests.service_manager import Manager

WATCHDOG_S = 0.8

# Says on stderr when a datagram socket of the file system is made, whoever makes it.
AUDITED_SINK = """
import socket, sys
def hook(event, arguments):
    if event == "socket.__new__" and arguments[1:3] == (socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC):
        print("DATAGRAM SOCKET", file=sys.stderr)
sys.addaudithook(hook)
from sink.__main__ import main
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """It is named in the environment of every sink of the test."""
    path = str(tmp_path / "notify")
    with Manager(path) as made:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
        yield made


def test_ready_comes_after_recovery_and_when_producers_may_come(tmp_path: Path, manager: Manager) -> None:
    with SinkProcess(tmp_path / "data") as process:
        with RawProducer(process.ready().endpoint) as producer:
            index = producer.lease()
            producer.end(producer.begin(index))
            producer.hear(Committed)
        assert process.terminate() == 0
    manager.hears("STOPPING=1")
    manager.catch_up()
    manager.heard.clear()
    with SinkProcess(tmp_path / "data"):
        ready = manager.hears("READY=1")
        assert manager.heard[:-1] == [f"STATUS=recovering {tmp_path / 'data'}"]
        endpoint = re.search(r"^STATUS=ready, producers at (tcp://\S+)$", ready, re.MULTILINE)
        assert endpoint, ready
        socket.create_connection(("127.0.0.1", int(endpoint[1].rpartition(":")[2])), timeout=0.5).close()
        with RawProducer(endpoint[1]) as producer:
            producer.hello(holding=(index,))
            assert producer.hear(Welcome).committed == (index,)


def test_a_sink_that_cannot_recover_is_never_ready(tmp_path: Path, manager: Manager) -> None:
    with SinkProcess(tmp_path / "data") as process:
        with RawProducer(process.ready().endpoint) as producer:
            producer.end(producer.begin(producer.lease()))
            producer.hear(Committed)
        process.kill()
    manager.catch_up()
    manager.heard.clear()
    shard = next((tmp_path / "data").rglob("000000.h5"))
    os.truncate(shard, 100)
    with SinkProcess(tmp_path / "data") as process:
        assert process.wait() == 1
    assert manager.catch_up() == [f"STATUS=recovering {tmp_path / 'data'}"]


def test_pings_come_until_the_loop_stands_still(tmp_path: Path, manager: Manager) -> None:
    with SinkProcess(tmp_path / "data") as process:
        manager.hears("READY=1")
        for _ in range(3):
            manager.hears("WATCHDOG=1")
        process.child.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{process.child.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the sink stands still")
        manager.catch_up()
        assert manager.next(1.5 * WATCHDOG_S) is None
        process.child.send_signal(signal.SIGCONT)
        manager.hears("WATCHDOG=1")


def test_stopping_comes_while_an_episode_is_being_committed(tmp_path: Path, manager: Manager) -> None:
    gate, data = tmp_path / "gate", tmp_path / "data"
    gate.touch()
    flags = ("--data", data, "--bind", "tcp://127.0.0.1:0", "--http", "None", "--shard-mib", "1", "--lease-s", "60")
    with Process("-m", "sink.bench.stalled", gate, *flags) as process:
        endpoint = process.says(r"READY: data .*, producers at (\S+),")[1]
        with RawProducer(endpoint) as producer:
            index = producer.lease()
            gate.unlink()
            producer.end(producer.begin(index))
            producer.send(Ping(session=0))
            producer.hear(Pong)  # so the End has been taken
            process.child.terminate()
            stopping = manager.hears("STOPPING=1")
            assert "STATUS=draining: 1 episodes are being committed" in stopping
            manager.hears("WATCHDOG=1")  # the loop goes on while it drains
            assert process.child.poll() is None
            assert CheckingReader(data).indices == []
            gate.touch()
            assert producer.hear(Committed).index == index
        assert process.wait() == 0
    assert CheckingReader(data).indices == [index]


def test_a_disk_that_hangs_stops_no_ping_and_shows_in_the_status(
    run_sink: RunSink, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_DISK_HANGS_S", 0.5)
    monkeypatch.setattr(notify, "STATUS_INTERVAL_S", 0.5)
    disk = GatedDisk()
    sink = run_sink(disk=disk, delivery={"lease_s": 60.0})  # the producer says nothing while it waits
    with RawProducer(sink.endpoint) as producer:
        made = producer.begin(producer.lease())
        disk.gate.clear()
        try:
            producer.end(made)
            manager.hears(r"STATUS=0 episodes, .* 1 producers; the disk has not answered for \d+ s")
            for _ in range(4):
                manager.hears("WATCHDOG=1")
        finally:
            disk.gate.set()
        producer.hear(Committed)
        manager.hears(r"STATUS=1 episodes, \d+\.\d MB/s, 1 producers")


def test_without_a_service_manager_no_datagram_socket_is_made(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--bind", "tcp://127.0.0.1:0", "--http", "None", "--shard-mib", "1")
    with Process("-c", AUDITED_SINK, "--data", tmp_path / "with", *flags) as process:
        process.says("DATAGRAM SOCKET")
        manager.hears("READY=1")
        assert process.terminate() == 0
    manager.catch_up()
    monkeypatch.delenv("NOTIFY_SOCKET")  # WATCHDOG_USEC alone asks for nothing
    with Process("-c", AUDITED_SINK, "--data", tmp_path / "without", *flags) as process:
        process.says("READY: data")
        assert process.terminate() == 0
    assert "DATAGRAM SOCKET" not in process.output
    assert manager.catch_up() == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "relative", "@headrace/nobody/there", "/" + 200 * "x"])
def test_a_wrong_notify_socket_is_survived_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with SinkProcess(tmp_path) as process:
        with RawProducer(process.ready().endpoint) as producer:
            producer.end(producer.begin(producer.lease()))
            producer.hear(Committed)
        assert process.terminate() == 0
    assert process.output.count(f"NOTIFY_SOCKET {address}: ") == 1
