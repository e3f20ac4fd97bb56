"""`headrace status`: the jobs of a collection on a cluster, and how far it is."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from deploy.cancel import find_record
from deploy.progress import Progress, progress_of
from deploy.record import Record, SubmittedJob
from deploy.slurm import client
from deploy.ssh import looking
from deploy.topology import absolute, read_topology

# The exit status of producers that were asked to stop.
_INTERRUPTED = 130


@dataclass(frozen=True)
class StatusFlags:
    """Show jobs, progress, throughput and producers of what was submitted last."""

    topology: Positional[Path]
    """Its topology file."""
    json: bool = False
    """One JSON object."""


def main(argv: Sequence[str] | None = None) -> int:
    """Show it once. Raises HeadraceError."""
    flags = tyro.cli(StatusFlags, prog="headrace status", args=argv)
    record = find_record(flags.topology)
    if record.engine == "ssh":
        return _show_hosts(flags, record)
    client.check_installed()
    tasks = client.tasks_of(record.ids())
    progress = progress_of(absolute(read_topology(flags.topology), Path.cwd()))
    if flags.json:
        sys.stdout.write(json.dumps(_as_json(record, tasks, progress), indent=1) + "\n")
    else:
        _show(record, tasks, progress)
    return 0


def _show_hosts(flags: StatusFlags, record: Record) -> int:
    state = looking.look(read_topology(flags.topology), record)
    if flags.json:
        sys.stdout.write(json.dumps(looking.as_json(record, state), indent=1) + "\n")
        return 0
    console = _console(record)
    looking.show(console, record, state)
    _show_progress(console, state.progress)
    return 0


def _as_json(record: Record, tasks: Sequence[client.TaskState], progress: Progress) -> dict[str, Any]:
    jobs = [
        {
            "name": job.name,
            "kind": job.kind,
            "id": job.id,
            "log": job.log,
            "tasks": [{**asdict(task), "state": state_of(task)} for task in tasks if task.job == job.id],
        }
        for job in record.jobs
    ]
    return {
        "name": record.name,
        "engine": record.engine,
        "generation": record.generation,
        "submitted_s": record.submitted_s,
        "data": record.data,
        "live": any(task.live for task in tasks),
        "jobs": jobs,
        "progress": asdict(progress),
    }


def state_of(task: client.TaskState) -> str:
    """For people: one that was asked to stop and did has not failed."""
    if task.state == "FAILED" and task.exit_status == _INTERRUPTED:
        return "STOPPED"
    return task.state


def _show(record: Record, tasks: Sequence[client.TaskState], progress: Progress) -> None:
    console = _console(record)
    table = Table(box=None, pad_edge=False)
    for name in ("job", "id", "state", "nodes", "time", "restarts", "why"):
        table.add_column(name)
    for job in record.jobs:
        table.add_row(job.name, job.id, *_cells([task for task in tasks if task.job == job.id]))
    console.print(table)
    for advice in advice_of(record.jobs, tasks):
        console.print(advice)
    _show_progress(console, progress)


def _console(record: Record) -> Console:
    console = Console(highlight=False, soft_wrap=True)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.submitted_s))
    console.print(f"{record.name}, generation {record.generation}, submitted {when}")
    return console


def _show_progress(console: Console, progress: Progress) -> None:
    console.print(f"\nprogress, from {progress.source}:")
    for stream in progress.streams:
        goal = f" of {stream.goal}" if stream.goal is not None else ""
        console.print(
            f"  {stream.name}: {stream.successes}{goal} successes, {stream.episodes - stream.successes} failed, "
            f"{stream.per_hour:.0f} episodes/h"
        )
    if not progress.streams:
        console.print("  nothing is committed yet")
    console.print(f"  producers: {', '.join(progress.producers) or 'none'}")
    for problem in progress.problems:
        console.print(f"  {problem}")


def _cells(tasks: Sequence[client.TaskState]) -> list[str]:
    """State, nodes, time, restarts, why; those of an array are counted."""
    states = Counter(state_of(task) for task in tasks)
    one = len(tasks) == 1 and tasks[0].task is None
    state = ", ".join(name if one else f"{count} {name}" for name, count in sorted(states.items()))
    nodes = ",".join(sorted({task.nodes for task in tasks if task.nodes and task.live}))
    reasons = ", ".join(sorted({task.reason for task in tasks if task.reason}))
    used = f"{tasks[0].used} of {tasks[0].limit}" if tasks and tasks[0].used else ""
    return [state, nodes, used, str(sum(task.restarts for task in tasks)), reasons]


def advice_of(jobs: Sequence[SubmittedJob], tasks: Sequence[client.TaskState]) -> list[str]:
    """What to do about jobs that ended other than they should."""
    told = []
    for job in jobs:
        states = {state_of(task) for task in tasks if task.job == job.id}
        if "TIMEOUT" in states or "DEADLINE" in states:
            told.append(f"{job.name} ran into its time limit; submit again, it goes on where it stopped")
        if states & {"FAILED", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL"}:
            told.append(f"{job.name} failed, see {job.log}; when that is mended, cancel the rest and submit again")
        reasons = {task.reason for task in tasks if task.job == job.id and task.state == "PENDING"}
        if any(reason.startswith(("Assoc", "QOS")) for reason in reasons):
            told.append(f"{job.name} waits for a limit of your account, perhaps its allocation has expired")
    return told


if __name__ == "__main__":
    sys.exit(main())
