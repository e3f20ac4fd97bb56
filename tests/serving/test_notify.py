"""The words of sd_notify(3), without a server round them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from serving.notify import ServiceNotifier
from tests.service_manager import Manager


def environment(address: str, **more: str) -> Mapping[str, str]:
    return {"NOTIFY_SOCKET": address, **more}


def pings_at(manager: Manager, notifier: ServiceNotifier, times: list[float]) -> list[float]:
    """At which of these passes of a loop a ping came."""
    pinged = []
    for now in times:
        notifier.alive(now)
        if "WATCHDOG=1" in manager.catch_up():
            pinged.append(now)
    return pinged


def test_an_abstract_address_is_understood() -> None:
    name = f"headrace-test-{os.getpid()}"
    with Manager(f"\0{name}") as manager:
        ServiceNotifier(environment(f"@{name}")).ready("of\ntwo lines")
        assert manager.catch_up() == ["READY=1\nSTATUS=of two lines"]


def test_pings_are_due_twice_in_an_interval_or_more_often(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with Manager(address) as manager:
        notifier = ServiceNotifier(environment(address, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid())))
        passes = [0.1 * number for number in range(100)]
        pinged = pings_at(manager, notifier, passes)
        assert pinged[0] == 0
        assert max(after - before for before, after in pairwise(pinged)) <= 0.5
        assert len(pinged) < len(passes) / 2


@pytest.mark.parametrize(
    "variables",
    [{}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1 s"}],
)
def test_no_pings_are_sent_that_were_not_asked_for(
    tmp_path: Path, variables: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    with Manager(address) as manager, caplog.at_level(logging.WARNING):
        notifier = ServiceNotifier(environment(address, **variables))
        assert pings_at(manager, notifier, [0.0, 100.0]) == []
    wrong = variables.get("WATCHDOG_USEC") in ("0", "1 s")
    assert ("WATCHDOG_USEC: expected microseconds" in caplog.text) == wrong


def test_ready_is_said_again_until_it_is_heard_and_status_only_when_it_changed(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = ServiceNotifier(environment(address))
    notifier.ready("here")  # nobody listens yet
    with Manager(address) as manager:
        for now, status in enumerate(["a", "a", "b", "b", "b", "b", "b", "b", "b"]):
            notifier.progress(float(now), status)
        assert manager.catch_up() == ["READY=1\nSTATUS=here", "STATUS=a", "STATUS=b"]


def test_a_service_manager_that_does_not_listen_is_not_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with Manager(address) as manager:
        notifier = ServiceNotifier(environment(address, WATCHDOG_USEC="1"))
        for now in range(10_000):  # far more than a socket holds
            notifier.alive(float(now))
        notifier.stopping("bye")
        assert set(manager.catch_up()) == {"WATCHDOG=1"}
        notifier.progress(10_000.0, "later")
        assert manager.catch_up() == ["STOPPING=1\nSTATUS=bye"]
