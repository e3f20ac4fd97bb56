"""What `headrace status` tells of a collection on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

from deploy.ray.cluster import connected
from deploy.ray.draining import CONDUCTOR
from deploy.ray.plan import namespace_of
from deploy.ray.report import Report, read_report
from deploy.record import Record, SubmittedJob
from deploy.tasks import TaskState
from deploy.topology import Topology


def tasks_of(topology: Topology, record: Record) -> list[TaskState]:
    """One for each actor. topology: with absolute paths. Raises RayError if the cluster does not answer."""
    with connected(record.address, namespace_of(topology)) as cluster:
        there = cluster.names()
        answers = cluster.reports(there)
    found = []
    begins = CONDUCTOR in there
    for job in record.jobs:
        for name, number in _actors(job):
            report = answers.get(name) or read_report(topology.folder, name, record.generation)
            if report is None:
                found.append(_unbegun(job.id, number, name in there, begins))
            else:
                found.append(_state(job.id, number, report, name in there, name in answers))
    return found


def _actors(job: SubmittedJob) -> Iterator[tuple[str, int | None]]:
    if job.tasks is None:
        yield job.name, None
    else:
        yield from ((f"{job.name}.{number}", number) for number in range(job.tasks))


def _unbegun(job: str, task: int | None, there: bool, begins: bool) -> TaskState:
    """there: Ray knows it. begins: the conductor will see to it."""
    if there or begins:
        return TaskState(job, task, "PENDING", reason="waits for room" if there else "waits for the servers")
    return TaskState(job, task, "GONE", reason="has not begun")


def _state(job: str, task: int | None, report: Report, there: bool, answers: bool) -> TaskState:
    """there: Ray knows it. answers: and it runs."""
    if answers:
        state = "RUNNING"
    elif report.final:
        state = str(report.state)
    else:
        state = "RESTARTING" if there else "LOST"
    return TaskState(
        job,
        task,
        state,
        restarts=report.life - 1,
        used=_clock((report.ended_s or time.time()) - report.started_s),
        nodes=report.node,
        reason=report.reason,
        exit_status=report.exit_status,
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
