"""Nobody fills the sink's memory with messages that never end, or its places with silence."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers.publisher import Goal, Publisher
from protocol.messages import Ping, Welcome
from serving.connections import ConnectionLimits
from tests.fakes import counting_spec, publish
from tests.live_sink import GatedDisk, RunSink
from tests.processes import Process, SinkProcess, wait_until
from tests.raw_producer import RawProducer
from tests.sink.endless_client import connect

MIB = 1 << 20
BOUND_MIB = 160
ATTEMPTS = 4


@contextmanager
def most_memory(sink: SinkProcess) -> Iterator[list[int]]:
    """The most that the sink had while the body ran."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], sink.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize("frame_bytes", [4 * MIB, 100_000, 1000, 0])
def test_a_message_that_never_ends_fills_no_memory(tmp_path: Path, frame_bytes: int) -> None:
    for attempt in range(ATTEMPTS):
        most, late = _under_attack(tmp_path / str(attempt), frame_bytes)
        if most < BOUND_MIB * MIB:
            return
        # Two clients bring more than 1 MB in a millisecond: nobody can hold them while the machine runs no guard.
        assert late > 0, f"{most} bytes, though the guard was never late"
    pytest.fail(f"the guard was held up in each of {ATTEMPTS} attacks")


def _under_attack(data: Path, frame_bytes: int) -> tuple[int, float]:
    """The most memory that a sink had, and how often it did not look at its connections for 50 ms."""
    with SinkProcess(data, "--memory-mib", str(BOUND_MIB)) as sink:
        sink.ready()
        port = sink.endpoint.rpartition(":")[2]
        arguments = ("-m", "tests.sink.endless_client", port, str(frame_bytes), "1.5")
        with most_memory(sink) as most, Publisher(sink.endpoint, counting_spec(), Goal(end=8)) as publisher:
            attackers = [Process(*arguments) for _ in range(2)]
            for index in publisher.leases():
                publish(publisher, index)
            assert publisher.committed == 8
            for attacker in attackers:
                assert attacker.wait() == 0, attacker.output
                assert int(attacker.says(r"CUT (\d+)")[1]) >= 1
        with urllib.request.urlopen(f"http://{sink.http}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        (late,) = [f.samples[0].value for f in families if f.name == "headrace_sink_guard_late"]
        assert sink.terminate() == 0
    return most[0], late


def test_who_has_a_session_keeps_its_place_and_others_make_room(run_sink: RunSink) -> None:
    sink = run_sink(connections=ConnectionLimits(connections=4))
    port = int(sink.endpoint.rpartition(":")[2])
    with RawProducer(sink.endpoint) as honest:
        honest.lease()
        wait_until(lambda: len(sink._connections._served) == 1, "the guard knows who is served")
        others = [connect(port) for _ in range(8)]
        try:
            wait_until(lambda: sum(map(_ended, others)) == 5, "all but three are cut off")
            assert [_ended(other) for other in others] == [True] * 5 + [False] * 3  # the oldest go first
            honest.next_lease()
        finally:
            for other in others:
                other.close()


def test_who_says_nothing_makes_room(run_sink: RunSink) -> None:
    sink = run_sink(connections=ConnectionLimits(silence_s=2.0))
    with RawProducer(sink.endpoint) as honest:
        honest.lease()
        with connect(int(sink.endpoint.rpartition(":")[2])) as silent:
            wait_until(lambda: honest.send(Ping(session=0)) or _ended(silent), "the silent one is cut off")
        honest.next_lease()
        assert sink.metrics.guard.cut.labels("silent")._value.get() == 1


def test_whole_messages_of_any_number_are_no_reason_to_be_cut(run_sink: RunSink) -> None:
    """The bytes that libzmq adds on the wire do not gather in the account."""
    sink = run_sink()
    with RawProducer(sink.endpoint) as honest:
        honest.hello()
        honest.hear(Welcome)
        for _ in range(20):
            for _ in range(1000):
                honest.send(Ping(session=0))
            honest.next_lease()
        (connection,) = sink._connections._connections.values()
        wait_until(lambda: connection.waiting == 0, "the account is even")
        assert not connection.cut


def test_a_window_counts_though_its_welcome_had_to_wait_for_the_disk(run_sink: RunSink) -> None:
    """Else a producer would be cut off in the middle of its first message, like one without a session."""
    disk = GatedDisk()
    sink = run_sink(disk=disk)
    disk.gate.clear()
    try:
        with RawProducer(sink.endpoint) as honest:
            honest.hello()
            wait_until(lambda: sink.delivery.waiting, "the stream is being opened")
            before = sink.board.latest["uptime_s"]
            wait_until(lambda: sink.board.latest["uptime_s"] > before + 1, "the sink has looked round twice")
            disk.gate.set()
            credit = honest.hear(Welcome).credit
            (connection,) = sink._connections._connections.values()
            wait_until(lambda: connection.window == credit, "the guard knows the window")
    finally:
        disk.gate.set()


def test_the_file_of_an_ipc_endpoint_is_for_its_owner(run_sink: RunSink, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    run_sink(bind=f"ipc://{path}")
    assert os.stat(path).st_mode & 0o777 == 0o600
    with RawProducer(f"ipc://{path}") as honest:
        honest.lease()


def _ended(stream: socket.socket) -> bool:
    """The other side has closed."""
    stream.setblocking(False)
    try:
        while stream.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
