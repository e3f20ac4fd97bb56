"""Programs of actors end with them, all that they have started too, and two lives never overlap; without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy.ray.guard import GRACE_S
from deploy.ray.orders import Orders
from deploy.ray.program import ActorProgram
from deploy.ray.report import Report, read_report, report_file
from deploy.roles import Preparation, Role
from deploy.topology import Resources
from tests.processes import REPOSITORY, wait_until

GOES_ON = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
print("deaf", flush=True)
time.sleep(300)
"""
# Two processes; the second one is in nobody's way and does not hear SIGTERM.
FAMILY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {GOES_ON!r}, sys.argv[1]]).wait()"


class Life:
    """An actor's program, and what it has come to."""

    def __init__(self, folder: Path, code: str, prepare: Preparation | None = None) -> None:
        command = (sys.executable, "-c", code, str(folder))
        role = Role("worker", "producers", command, Resources(), own_program=True, prepare=prepare)
        orders = Orders("worker", 1, role, folder, REPOSITORY, {}, {"COLOUR": "red"})
        self.folder, self.log = folder, orders.log
        for each in (orders.log.parent, report_file(folder, "worker").parent):
            each.mkdir(exist_ok=True)
        self._over = threading.Event()
        self.program = ActorProgram(orders, "10.0.0.7", lambda _: self._over.set())

    def report(self) -> Report:
        """The last one, also as it was written."""
        assert self._over.wait(30)
        assert read_report(self.folder, "worker", 1) == self.program.report
        return self.program.report

    def processes(self) -> list[int]:
        """What runs, without guards."""
        return processes(self.folder)


def processes(folder: Path, guards: bool = False) -> list[int]:
    """Programs of a folder that run, or their guards."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(folder) in words and ("deploy.ray.guard" in words) == guards:
            found.append(int(name))
    return found


def test_a_program_that_ends_is_reported(tmp_path: Path) -> None:
    life = Life(tmp_path, "import os; print(os.environ['COLOUR'], os.environ['HEADRACE_NAME'], flush=True)")
    assert (life.report().state, life.report().life, life.report().final) == ("COMPLETED", 1, True)
    assert life.log.read_text().endswith(" life 1 of worker on 10.0.0.7\nred worker\n")
    again = Life(tmp_path, "raise SystemExit(7)")
    assert again.report() == life.report(), "it had ended before, only Ray did not know yet"


def test_one_that_fails_is_not_begun_again_and_one_that_is_killed_is(tmp_path: Path) -> None:
    killed = Life(tmp_path, "import os; os.kill(os.getpid(), 9)").report()
    assert (killed.state, killed.exit_status, killed.final) == ("KILLED", -9, False)
    failed = Life(tmp_path, "raise SystemExit(7)").report()
    assert (failed.life, failed.state, failed.exit_status, failed.final) == (2, "FAILED", 7, True)
    assert failed.reason == "exit status 7"


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    Life(tmp_path, "").report()
    role = Role("worker", "producers", ("no-such-program",), Resources(), own_program=True)
    over = threading.Event()
    orders = Orders("lost", 1, role, tmp_path, REPOSITORY, {}, {})
    program = ActorProgram(orders, "10.0.0.7", lambda _: over.set())
    assert over.wait(30)
    assert (program.report.state, program.report.exit_status) == ("FAILED", 127)
    assert "cannot start no-such-program: No such file or directory" in orders.log.read_text()
    nowhere = Orders("other", 1, role, tmp_path, tmp_path / "nowhere", {}, {})
    over.clear()
    program = ActorProgram(nowhere, "10.0.0.7", lambda _: over.set())
    assert over.wait(30)
    assert "nowhere" in program.report.reason
    unseen = Orders("other", 1, role, tmp_path / "unseen", REPOSITORY, {}, {})
    over.clear()
    program = ActorProgram(unseen, "10.0.0.7", lambda _: over.set())
    assert over.wait(30)
    assert "unseen" in program.report.reason
    assert program.report.final


def test_sigterm_reaches_the_program_and_what_it_left_behind_is_killed(tmp_path: Path) -> None:
    life = Life(tmp_path, FAMILY)
    wait_until(lambda: life.log.exists() and "deaf" in life.log.read_text(), "both run")
    life.program.stop()
    life.program.stop()
    report = life.report()
    assert (report.state, report.exit_status) == ("FAILED", 130), "the number of those that were asked to stop"
    assert not report.reason
    wait_until(lambda: not life.processes(), "the other one is gone too")


def test_nothing_is_orphaned_when_the_actor_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.deploy.test_ray_guard import GOES_ON, Life; "
        "Life(Path(sys.argv[1]), GOES_ON); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", program, f"{tmp_path}/"], cwd=REPOSITORY) as actor:
        log = tmp_path / "logs" / "worker-g1.log"
        wait_until(lambda: log.exists() and "deaf" in log.read_text(), "it runs")
        actor.send_signal(signal.SIGKILL)
    began = time.monotonic()
    life = Life(tmp_path, "print('second', flush=True)")
    assert life.report().life == 2
    assert not life.processes()
    assert time.monotonic() - began > GRACE_S / 2, "it has waited for the first life, which does not hear SIGTERM"


def test_a_guard_that_is_killed_takes_its_program_along(tmp_path: Path) -> None:
    life = Life(tmp_path, GOES_ON)
    wait_until(life.processes, "it runs")
    for pid in processes(tmp_path, guards=True):
        os.kill(pid, signal.SIGKILL)
    assert life.report().state == "KILLED"
    wait_until(lambda: not life.processes(), "it is gone too")


@pytest.mark.parametrize("there", [False, True])
def test_a_preparation_runs_once(tmp_path: Path, there: bool) -> None:
    unless = tmp_path / "made"
    if there:
        unless.mkdir()
    life = Life(tmp_path, "print('begun', flush=True)", Preparation(("no-such-command",), unless))
    report = life.report()
    assert report.state == ("COMPLETED" if there else "FAILED")
    assert ("begun" in life.log.read_text()) == there
    assert ("there is no command 'no-such-command'" in life.log.read_text()) != there
