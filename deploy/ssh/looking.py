"""`headrace status` for a collection that was started over ssh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from deploy.progress import Progress
from deploy.record import Record
from deploy.ssh.lab import lab_of_record
from deploy.ssh.link import HostError
from deploy.ssh.orders import Look, ProgramState, Seen
from deploy.topology import Topology

_UNKNOWN = "unknown"
# Of a program that needs to be looked at, with what to do.
_ADVICE = {
    "failed": "ended with status {status}",
    "lost": "was killed, or its machine was started anew",
}


@dataclass(frozen=True)
class LabState:
    """programs: by host. silent: hosts that do not answer, and why."""

    programs: Mapping[str, tuple[ProgramState, ...]]
    silent: Mapping[str, HostError]
    progress: Progress

    @property
    def live(self) -> bool:
        """Something runs."""
        return any(each.state == "running" for states in self.programs.values() for each in states)


def look(topology: Topology, record: Record) -> LabState:
    """Ask all hosts at once."""
    lab = lab_of_record(topology, record)
    names: dict[str, list[str]] = {each.name: [] for each in record.hosts}
    for job in record.jobs:
        names[job.id].append(job.name)
    servers = next(job.id for job in record.jobs if job.kind == "servers")

    def order(host: str) -> Look:
        return Look(lab.places[host], tuple(names[host]), topology if host == servers else None)

    answers = lab.ask(order, Seen, any_release=True)
    silent = {host: answer for host, answer in answers.items() if isinstance(answer, HostError)}
    seen = {host: answer for host, answer in answers.items() if isinstance(answer, Seen)}
    silence = Progress("nowhere", problems=(f"{servers} does not answer",))
    progress = msgspec.json.decode(seen[servers].progress, type=Progress) if servers in seen else silence
    programs = {host: answer.programs for host, answer in seen.items()}
    return LabState(programs, silent, progress)


def as_json(record: Record, state: LabState) -> dict[str, Any]:
    """For `--json`."""
    found = {(host, each.name): each for host, states in state.programs.items() for each in states}
    jobs = []
    for job in record.jobs:
        each = found.get((job.id, job.name))
        told = msgspec.to_builtins(each) if each is not None else {"name": job.name, "state": _UNKNOWN}
        jobs.append({"kind": job.kind, "host": job.id, "log": job.log, **told})
    return {
        "name": record.name,
        "engine": record.engine,
        "generation": record.generation,
        "submitted_s": record.submitted_s,
        "data": record.data,
        "live": state.live,
        "jobs": jobs,
        "hosts": {each.name: str(state.silent.get(each.name, "")) or None for each in record.hosts},
        "progress": asdict(state.progress),
    }


def show(console: Console, record: Record, state: LabState) -> None:
    """What runs where, and the last lines of programs that ended other than they should."""
    table = Table(box=None, pad_edge=False)
    for name in ("program", "host", "state"):
        table.add_column(name)
    kinds: dict[tuple[str, str], Counter[str]] = {}
    found = {(host, each.name): each for host, states in state.programs.items() for each in states}
    for job in record.jobs:
        each = found.get((job.id, job.name))
        key = (job.name.partition(".")[0], job.id)
        kinds.setdefault(key, Counter())[each.state if each is not None else _UNKNOWN] += 1
    for (name, host), states in kinds.items():
        table.add_row(name, host, ", ".join(f"{count} {word}" for word, count in sorted(states.items())))
    console.print(table)
    for error in state.silent.values():
        console.print(str(error), markup=False)
    for line in advice_of(record, state):
        console.print(line, markup=False)


def advice_of(record: Record, state: LabState) -> list[str]:
    """What to do about programs that ended other than they should; the last lines of their logs."""
    told = []
    found = {(host, each.name): each for host, states in state.programs.items() for each in states}
    for job in record.jobs:
        each = found.get((job.id, job.name))
        if each is not None and each.state in _ADVICE:
            how = _ADVICE[each.state].format(status=each.exit_status)
            told.append(f"{job.name} on {job.id} {how}; its log {job.log} ends:")
            told += [f"    {line}" for line in each.tail]
    states = {(job.kind, found[job.id, job.name].state) for job in record.jobs if (job.id, job.name) in found}
    if told:
        told.append("when that is mended: headrace cancel, and submit again; it goes on where it stopped")
    elif ("servers", "running") in states and ("producers", "running") not in states and not state.silent:
        told.append(f"all producers have ended; headrace cancel {record.topology} ends the servers")
    return told
