"""Batch scripts: what a topology says is quoted, or was refused when it was read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.roles import Role
from deploy.topology import Resources
from protocol.errors import ConfigurationError

# A signal comes so long before the time limit [s]: more than a program takes to drain. Slurm looks every half minute,
# and producers must hear it first, or they would wait for a sink that has stopped.
WARNING_S = 60
PRODUCERS_WARNING_S = 120
_PLAIN = re.compile(r"[A-Za-z0-9_.,:@/+=%-]+")
_NOT_FOR_SBATCH = re.compile(r"[\x00-\x1f\x7f'\\]")
_SCRATCH = """\
# Scratch files do not belong on a network file system.
for folder in "${SLURM_TMPDIR:-}" "${TMPDIR:-}" /tmp /var/tmp; do
    [ -n "$folder" ] && [ -d "$folder" ] && [ -w "$folder" ] || continue
    case "$(stat --file-system --format=%T "$folder" 2>/dev/null)" in
        nfs* | lustre | gpfs | beegfs | fhgfs | ceph | afs | panfs | smb* | cifs) continue ;;
    esac
    export TMPDIR="$folder"
    break
done"""
_THREADS = """\
# Each worker is one core; libraries' own threads would only take turns with it.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"""
# TERM goes to the sink; the inference server stays until producers have nothing more to ask. A sink that is killed (no
# memory, a bad node) begins again, as it would if its node were lost; one that says why it cannot run does not.
_SERVERS = """\
sink= inference= asked=
trap 'asked=yes; [ -z "$sink" ] || kill -TERM "$sink" 2>/dev/null' TERM INT
{inference}{sink} &
sink=$!
wait "$sink"
status=$?
# A signal ends `wait`, not the sink: it drains.
while [ "$status" -gt 128 ] && kill -0 "$sink" 2>/dev/null; do
    wait "$sink"
    status=$?
done
if [ -n "$inference" ]; then
    kill -TERM "$inference" 2>/dev/null
    wait "$inference"
fi
if [ "$status" -gt 128 ] && [ -z "$asked" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
    echo "the sink was killed (status $status); this job is requeued" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status\""""
_RESTARTS = 5


@dataclass(frozen=True)
class Frame:
    """What all scripts of a collection share.

    name: of the collection. folder: for announcements and logs. cwd: where programs run. headrace: words of the
    command. setup: shell lines, as they are. addresses: announcement files by the names of what they announce.
    """

    name: str
    folder: Path
    cwd: Path
    headrace: tuple[str, ...]
    setup: tuple[str, ...]
    addresses: Mapping[str, str]

    def log(self, job: str) -> Path:
        """Pattern of a job's logs, as sbatch reads it."""
        return self.folder / "logs" / f"{job}.log"


def servers_script(frame: Frame, servers: Sequence[Role], resources: Resources, options: Sequence[str]) -> str:
    """The sink, and the inference server in the same job if there is one."""
    lines = [_preparation(frame, role) for role in servers if role.prepare is not None]
    words = {
        role.kind: _command(frame, [*role.words(frame.addresses), "--announce", frame.addresses[role.name]])
        for role in servers
    }
    inference = f"{words['inference']} &\ninference=$!\n" if "inference" in words else ""
    lines.append(_SERVERS.format(sink=words["sink"], inference=inference, restarts=_RESTARTS))
    return _script(frame, "servers", _restarted(resources, WARNING_S, options), "servers-%j", lines)


def trainer_script(frame: Frame, role: Role, options: Sequence[str]) -> str:
    """One trainer; a requeued one goes on from its checkpoint."""
    words = _command(frame, role.words(frame.addresses))
    lines = [f"exec {words}"]
    if role.resumes is not None:
        lines = [f"if [ -e {shlex.quote(str(role.resumes))} ]; then\n    exec {words} --resume\nfi", *lines]
    return _script(frame, role.name, _restarted(role.resources, WARNING_S, options), f"{role.name}-%j", lines)


def producers_script(frame: Frame, role: Role, options: Sequence[str], max_running: int | None) -> str:
    """An array; a task is known by its number, wherever it runs and however often."""
    array = f"--array=0-{role.count - 1}" + (f"%{max_running}" if max_running else "")
    named = f'export HEADRACE_NAME={shlex.quote(role.name)}."$SLURM_ARRAY_TASK_ID"'
    given = [f"export {name}={shlex.quote(value)}" for name, value in role.environment(frame.addresses).items()]
    words = role.words(frame.addresses)
    command = shlex.join(words) if role.own_program else _command(frame, [*words, "--plain"])
    lines = [_THREADS, named, *given, f"exec {command}"]
    asked = [array, *_restarted(role.resources, PRODUCERS_WARNING_S, options)]
    return _script(frame, role.name, asked, f"{role.name}-%A_%a", lines)


def end_script(frame: Frame, trainers: Sequence[str], servers: Sequence[str], options: Sequence[str]) -> str:
    """When no producer is left: trainers and servers drain, so that nobody pays for their idle time."""
    stopped = [*trainers, *servers]
    lines = [f"scancel --quiet --state=PENDING {shlex.join(stopped)}"]
    lines += [f"scancel --quiet --batch --signal=TERM {shlex.quote(job)}" for job in stopped]
    lines.append("exit 0  # one that has ended already is what was wanted")
    asked = _requested(Resources(cpus=1, memory_mib=100, time_limit="00:05:00"))
    return _script(frame, "end", [*asked, *options], "end-%j", lines)


def _script(frame: Frame, job: str, options: Sequence[str], log: str, lines: Sequence[str]) -> str:
    if "%" in str(frame.folder):
        raise ConfigurationError(f"{frame.folder}: sbatch takes % in the path of a log for a mark; rename the folder")
    asked = [
        f"--job-name={frame.name}-{job}",
        f"--chdir={frame.cwd}",
        f"--output={frame.log(log)}",
        "--open-mode=append",
        "--ntasks=1",
        *options,
    ]
    head = ["#!/bin/bash", *(f"#SBATCH {_directive(option)}" for option in asked)]
    # Whether a sink has keys, and which, is said by the topology and not by the shell of whoever submits.
    return "\n".join([*head, "", *frame.setup, "unset HEADRACE_KEY", _SCRATCH, *lines, ""])


def _directive(option: str) -> str:
    """An option as sbatch reads it from a script. Raises ConfigurationError for what it could read otherwise."""
    if _NOT_FOR_SBATCH.search(option):
        raise ConfigurationError(
            f"{option!r} cannot be told to sbatch: expected no quote, backslash or control character; rename the folder"
        )
    if _PLAIN.fullmatch(option):
        return option
    name, equals, value = option.partition("=")
    return f"{name}{equals}'{value}'"


def _requested(resources: Resources) -> list[str]:
    asked = [f"--cpus-per-task={resources.cpus}"] if resources.cpus is not None else []
    asked += [f"--mem={resources.memory_mib}M"] if resources.memory_mib is not None else []
    asked += [f"--gpus={resources.gpus}"] if resources.gpus else []
    return asked + ([f"--time={resources.time_limit}"] if resources.time_limit is not None else [])


def _restarted(resources: Resources, warning_s: int, options: Sequence[str]) -> list[str]:
    """What a job asks for that is told before its time is over, and begins again where it can."""
    return [*_requested(resources), f"--signal=B:TERM@{warning_s}", "--requeue", *options]


def _preparation(frame: Frame, role: Role) -> str:
    assert role.prepare is not None
    words = _command(frame, role.prepare.words)
    return f"[ -e {shlex.quote(str(role.prepare.unless))} ] || {words} || exit 1"


def _command(frame: Frame, words: Sequence[str]) -> str:
    return shlex.join([*frame.headrace, *words])
