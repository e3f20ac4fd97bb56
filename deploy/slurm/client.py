"""Slurm's own commands: each with its words as a list, no shell, and one sentence for what can go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from deploy.tasks import TaskState
from protocol.errors import ConfigurationError, HeadraceError

_LIMIT_S = 60.0
# Of squeue, with a mark after each that no value has.
_FIELDS = ("JobArrayID", "State", "RestartCnt", "TimeUsed", "TimeLimit", "NodeList", "Reason", "exit_code")
_ADVICE = {
    "policy": "a limit of your account is reached, perhaps its allocation is used up: ask your cluster's operator",
    "contact slurm controller": "is Slurm's controller up? `scontrol ping` asks it",
    "account": "is [slurm] account yours, and has its allocation not expired? `sacctmgr show associations` lists",
    "partition": "is [slurm] partition one of the cluster's? `sinfo` lists them",
    "qos": "is [slurm] qos one of yours? `sacctmgr show qos` lists them",
    "array": "the cluster takes no array of so many tasks: `scontrol show config` has its MaxArraySize",
    "time limit": "see time_limit of the [….resources] and the partition's limit in `sinfo`",
    "configuration is not available": "no node has what a [….resources] asks for; `sinfo -N -l` lists what they have",
}


class SlurmError(HeadraceError):
    """Slurm refused, or cannot be asked."""


def check_installed() -> None:
    """Raise ConfigurationError if this machine has no Slurm."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise ConfigurationError(
            f"there is no {missing[0]} on this machine; submit from a login node of a Slurm cluster, print the scripts "
            "with --print-only, or run everything here with `headrace up`"
        )


def submit(script: str, dependency: str | None) -> str:
    """Hand a script in; returns the job's id. dependency: as in --dependency. Raises SlurmError."""
    words = ["sbatch", "--parsable", *([f"--dependency={dependency}"] if dependency else []), script]
    return _run(words).strip().split(";")[0]


def tasks_of(jobs: Sequence[str]) -> list[TaskState]:
    """All tasks of some jobs; those that Slurm has forgotten are one task in state GONE. Raises SlurmError."""
    if not jobs:
        return []
    form = ",".join(f"{name}:.|" for name in _FIELDS)
    words = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(jobs)}", f"--Format={form}"]
    try:
        lines = _run(words).splitlines()
    except SlurmError as error:
        if "Invalid job id" not in str(error):  # what it says when it knows none of them any more
            raise
        lines = []
    found = [_parse(line) for line in lines if line.strip()]
    known = {task.job for task in found}
    return found + [TaskState(job, None, "GONE") for job in jobs if job not in known]


def cancel(jobs: Sequence[str], signal: str | None = None, state: str | None = None) -> None:
    """scancel: a signal to the batch script, or the end of a job; of those in a state only. Raises SlurmError.

    A job that has ended meanwhile is no error.
    """
    if not jobs:
        return
    words = ["scancel", "--quiet"]
    words += ["--batch", f"--signal={signal}"] if signal else []
    words += [f"--state={state}"] if state else []
    _run([*words, *jobs], harmless=("Invalid job id", "already completing", "Job/step already"))


def _parse(line: str) -> TaskState:
    name, state, restarts, used, limit, nodes, reason, status = (part.strip() for part in line.split("|")[:8])
    job, _, task = name.partition("_")
    return TaskState(
        job=job,
        task=int(task) if task.isdigit() else None,
        state=state,
        restarts=int(restarts) if restarts.isdigit() else 0,
        used=used,
        limit=limit,
        nodes=nodes,
        reason="" if reason == "None" else reason,
        exit_status=os.waitstatus_to_exitcode(int(status)) if status.isdigit() else 0,
    )


def _run(words: Sequence[str], harmless: Sequence[str] = ()) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    except FileNotFoundError as error:
        check_installed()
        raise SlurmError(f"cannot run {words[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{words[0]} did not answer within {_LIMIT_S:.0f} s; is Slurm's controller up?") from error
    if done.returncode and not any(text in done.stderr for text in harmless):
        said = "; ".join(line.removeprefix(f"{words[0]}: error: ") for line in done.stderr.strip().splitlines())
        said = said or f"it ended with status {done.returncode} and said nothing"
        hints = [advice for word, advice in _ADVICE.items() if word in said.lower()]
        raise SlurmError(f"{words[0]}: {said}" + (f" ({hints[0]})" if hints else ""))
    return done.stdout
