"""Submitting all jobs of a collection, or none."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import msgspec

from deploy.collection_keys import ensure_keys
from deploy.record import Record, SubmittedJob, check_engine, only_one, read_record, unreachable, write_record
from deploy.slurm import client
from deploy.slurm.plan import Plan, placeholder_ids
from protocol.errors import ConfigurationError, HeadraceError

_SCRIPTS, _LOGS = "scripts", "logs"


def printed(plan: Plan) -> str:
    """All scripts, each with the command that would submit it. Nothing is looked at or written."""
    ids = placeholder_ids(plan)
    parts = []
    for job in plan.jobs:
        dependency = job.dependency(ids)
        words = ["sbatch", "--parsable", *([f"--dependency={dependency}"] if dependency else [])]
        path = plan.frame.folder / _SCRIPTS / f"{job.name}.sh"
        parts.append(f"# {shlex.join([*words, str(path)])}   → {ids[job.name]}\n{plan.script(job, ids)}")
    return "\n".join(parts)


def submit_jobs(plan: Plan, topology_file: Path) -> Record:
    """Make keys if they are asked for, submit, and write the record.

    Raises ConfigurationError if jobs of this collection are live, or the shared folder cannot be used, SlurmError if
    Slurm refuses; then nothing is left behind.
    """
    client.check_installed()
    folder = plan.frame.folder
    try:
        for each in (folder, folder / _SCRIPTS, folder / _LOGS):
            each.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
    with only_one(folder):
        before = read_record(folder)
        check_engine(before, "slurm", folder)
        if before is not None:
            _refuse_if_live(before, folder)
        security = plan.topology.security
        if security is not None:
            ensure_keys(security)
        record = Record(
            engine="slurm",
            name=plan.frame.name,
            generation=before.generation + 1 if before is not None else 1,
            topology=str(topology_file),
            data=plan.topology.sink.data,
            submitted_s=time.time(),
        )
        _forget_announcements(plan)
        return _submit_all(plan, record)


def _submit_all(plan: Plan, record: Record) -> Record:
    folder, ids = plan.frame.folder, dict[str, str]()
    try:
        for job in plan.jobs:
            script = folder / _SCRIPTS / f"{job.name}.sh"
            _write(script, plan.script(job, ids))
            ids[job.name] = client.submit(str(script), job.dependency(ids))
            submitted = SubmittedJob(job.name, job.kind, ids[job.name], job.tasks, str(job.log))
            record = msgspec.structs.replace(record, jobs=(*record.jobs, submitted))
            write_record(folder, record)  # at each step, so that a cut off submission can be cancelled
    except HeadraceError:
        client.cancel(list(ids.values()))
        raise
    return record


def _refuse_if_live(record: Record, folder: Path) -> None:
    live = sorted({task.job for task in client.tasks_of(record.ids()) if task.live}, key=int)
    if live:
        raise ConfigurationError(
            f"generation {record.generation} of this collection is not over: job {', '.join(live)} (record in "
            f"{folder}); end it with: headrace cancel {record.topology}"
        )


def _forget_announcements(plan: Plan) -> None:
    """Those of an earlier generation lead nowhere, and nobody of it is left."""
    for path in plan.frame.addresses.values():
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(unreachable(plan.frame.folder, error)) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
        os.chmod(path, 0o755)
    except OSError as error:
        raise ConfigurationError(unreachable(path.parent.parent, error)) from error
