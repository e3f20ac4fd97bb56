"""The supervisor with real child processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from producers.job import Job
from producers.supervisor import Entry, Supervisor, WorkerError
from protocol.messages import Goal
from tests.producers import supervised


def supervise(entry: Entry, options: Any = None, workers: int = 1) -> Supervisor:
    return Supervisor(entry, [Job("tcp://127.0.0.1:1", f"w{n}", Goal(), options) for n in range(workers)])


def test_workers_finish_and_their_totals_are_known() -> None:
    supervisor = supervise(supervised.finish, workers=2)
    supervisor.run(lambda: None)
    assert [worker.stats.episodes for worker in supervisor.workers] == [1, 1]
    assert [worker.state for worker in supervisor.workers] == ["done", "done"]
    assert [worker.restarts for worker in supervisor.workers] == [0, 0]


def test_a_dead_worker_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = supervise(supervised.die_until_marked, (str(tmp_path / "lives"), 2))
    supervisor.run(lambda: None)
    assert supervisor.workers[0].restarts == 2
    assert supervisor.workers[0].stats.episodes == 1
    assert "w0 died (signal SIGKILL); it is started again" in caplog.text


def test_one_that_only_dies_ends_the_run(tmp_path: Path) -> None:
    supervisor = supervise(supervised.die_until_marked, (str(tmp_path / "lives"), 99))
    with pytest.raises(WorkerError, match="w0 died 5 times in a row without finishing an episode"):
        supervisor.run(lambda: None)


def test_what_is_wrong_for_one_worker_ends_the_run_with_its_sentence() -> None:
    supervisor = supervise(supervised.refuse, workers=2)
    with pytest.raises(WorkerError, match=r"w[01]: expected this, found that"):
        supervisor.run(lambda: None)
    assert all(worker.process is None or not worker.process.is_alive() for worker in supervisor.workers)


def test_stop_is_heard() -> None:
    supervisor = supervise(supervised.wait_for_stop, workers=2)

    def stop_when_working() -> None:
        if all(worker.state == "working" for worker in supervisor.workers):
            supervisor.stop()

    supervisor.run(stop_when_working)
    assert supervisor.stopping
    assert all(worker.finished for worker in supervisor.workers)


def test_what_workers_log_comes_out_of_the_supervisor(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        supervise(supervised.warn).run(lambda: None)
    said = [record.getMessage() for record in caplog.records]
    for name in ("one", "two"):
        assert [line for line in said if f" {name} " in line] == [f"w0: {name} says {n}" for n in range(50)]
