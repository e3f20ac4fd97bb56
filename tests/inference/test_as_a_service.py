"""`headrace infer` as a service for other machines: sd_notify, keys, an announcement, and strangers without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.query_client import QueryClient, QueryClientConfig
from protocol.announcement import read_announcement
from tests.inference.conftest import RunServer, metric
from tests.inference.scenes import query
from tests.processes import Process, wait_until
from tests.security.key_ring import KeyRing
from tests.service_manager import Manager

MIB = 1 << 20
CONFIG = QueryClientConfig(deadline_s=20.0)


def test_a_service_manager_and_planners_elsewhere_hear_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, file, address = KeyRing(tmp_path / "keys"), tmp_path / "infer.json", str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    program = ("-m", "tests.inference.server_program", "tcp://0.0.0.0:0", keys.path, file)
    with Manager(address) as manager, Process(*program) as server:
        manager.hears("STATUS=loading models")
        ready = manager.hears("READY=1")
        assert "STATUS=ready, planners at tcp://0.0.0.0:" in ready
        wait_until(file.exists, "it is announced")
        found = read_announcement(file)
        assert (found.role, found.public_key, found.pid) == ("inference", keys.sink.public, server.child.pid)
        config = QueryClientConfig(deadline_s=20.0, key=keys.client())
        with QueryClient([str(file)], config) as client:
            assert client.ask(query(1)).objects
        manager.hears("WATCHDOG=1")
        manager.hears(r"STATUS=1 queries answered, 0 wait; goals v1, objects v1")
        assert server.terminate() == 0
        manager.hears("STOPPING=1")
    assert read_announcement(file).stopped is not None


def test_an_address_that_others_can_reach_needs_keys(tmp_path: Path) -> None:
    with Process("-m", "inference", "--models", tmp_path, "--bind", "tcp://0.0.0.0:5556") as server:
        assert server.wait() == 1
        assert "can be reached from other machines, and without keys anyone could ask its models" in server.output
        assert "headrace keys new KEYS --client NAME" in server.output


@pytest.mark.parametrize("frame_bytes", [100_000, 0])
def test_messages_without_end_fill_no_memory(frame_bytes: int) -> None:
    with Process("-m", "tests.inference.server_program", "tcp://127.0.0.1:0") as server:
        endpoint = server.says(r"READY: planners at (\S+),")[1]
        with QueryClient([endpoint], CONFIG) as client:
            client.ask(query(1))
            before = server.memory()
            port = endpoint.rpartition(":")[2]
            most = 0
            with Process("-m", "tests.sink.endless_client", port, str(frame_bytes), "1.5") as attacker:
                while attacker.child.poll() is None:
                    client.ask(query(1))
                    most = max(most, server.memory())
                assert int(attacker.says(r"CUT (\d+)")[1]) >= 1
            assert "cut a connection from 127.0.0.1" in server.output
        assert most - before < 256 * MIB
        assert server.terminate() == 0


def test_who_says_nothing_makes_room_for_planners(run_server: RunServer) -> None:
    server = run_server(connections=3)
    with QueryClient([server.endpoint], CONFIG) as first:
        first.ask(query(1))
        wait_until(lambda: server._guard._served, "the guard knows who is served")
        others = [QueryClient([server.endpoint], CONFIG) for _ in range(6)]
        try:
            wait_until(lambda: metric(server, "connections_cut_total", reason="too_many") >= 4, "some make room")
            first.ask(query(2))
        finally:
            for other in others:
                other.close()
