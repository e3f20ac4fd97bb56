"""Starting a collection on machines that are reached with ssh."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from deploy.record import Record, RecordedHost, SubmittedJob, check_engine, only_one, read_record, write_record
from deploy.ssh.ending import stop_kind
from deploy.ssh.lab import all_of, lab_of_record, split
from deploy.ssh.link import PATIENCE_S, headrace_words
from deploy.ssh.orders import Carried, CarriedFile, Check, Collect, Done, HostReport, Program, Start
from deploy.ssh.placement import kind_of, name_of, wanted_cores
from deploy.ssh.plan import Plan, make_folder
from deploy.topology import Security, absolute
from protocol.errors import ConfigurationError

# How long servers may take until others can find them [s]: models are loaded before.
_READY_LIMIT_S = 120.0
# When a submission is taken back [s].
_STOP_LIMIT_S = 20.0
# So many are named in a sentence.
_NAMED = 6


def told(plan: Plan) -> str:
    """What was started where, for people."""
    lines = []
    for host, placed in plan.placed.items():
        report = plan.reports[host]
        names = Counter(role.name for role, _ in placed)
        what = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in names.items()) or "nothing"
        wanted = wanted_cores(placed)
        more = f", and {wanted} are wanted" if wanted > report.cores else ""
        lines.append(f"{host}: {what} (by {report.detach}, {report.cores} cores{more})")
        lines.append(f"    logs: {plan.collection(host).folder / 'logs'}")
    return "".join(f"{line}\n" for line in lines)


def submit_to_hosts(plan: Plan, topology_file: Path, cwd: Path) -> Record:
    """Start everything, and write the record. Raises ConfigurationError if it runs already, HostError.

    Then nothing of it is left running, as far as hosts answer.
    """
    folder = absolute(plan.topology, cwd).folder
    make_folder(folder)
    with only_one(folder):
        before = read_record(folder)
        check_engine(before, "ssh", folder)
        _refuse_if_live(plan, before, topology_file)
        record = _record(plan, before, topology_file)
        write_record(folder, record)  # before the first program starts, so that all can be cancelled
        try:
            _start_all(plan)
        except BaseException:
            for kind in ("producers", "trainers", "servers"):
                stop_kind(plan.lab, record, kind, _STOP_LIMIT_S)
            raise
    return record


def _start_all(plan: Plan) -> None:
    """Servers, then what speaks to them; on other machines, with what they need to find them."""
    security, first = plan.topology.security, plan.servers
    servers = plan.programs(first, "servers")
    announced = plan.announcements()
    order = _start(plan, first, servers, keys=security, forget=announced)
    plan.lab.link(first).ask(order, Done)
    also = (security.client_key,) if security is not None else ()
    names = tuple(program.name for program in servers)
    collect = Collect(plan.lab.places[first], names, announced, also, _READY_LIMIT_S)
    carried = plan.lab.link(first).ask(collect, Carried, _READY_LIMIT_S + PATIENCE_S)
    files = () if plan.lab.settings.shared else carried.files

    def rest(host: str) -> Start:
        kinds = ("trainers", "producers")
        return _start(plan, host, plan.programs(host, *kinds), files=() if host == first else files)

    all_of(plan.lab.ask(rest, Done, hosts=[host for host in plan.lab.places if plan.placed[host]]))


def _start(
    plan: Plan,
    host: str,
    programs: tuple[Program, ...],
    files: tuple[CarriedFile, ...] = (),
    forget: tuple[str, ...] = (),
    keys: Security | None = None,
) -> Start:
    link, report = plan.lab.link(host), plan.reports[host]
    setup = plan.lab.settings.setup
    return Start(plan.lab.places[host], headrace_words(link), report.detach, setup, programs, files, forget, keys)


def _record(plan: Plan, before: Record | None, topology_file: Path) -> Record:
    jobs = []
    for host, placed in plan.placed.items():
        where = plan.collection(host)
        for role, number in placed:
            name = name_of(role, number)
            jobs.append(SubmittedJob(name, kind_of(role), host, None, f"{host}:{where.log(name)}"))
    return Record(
        engine="ssh",
        name=plan.topology.name or "collection",
        generation=before.generation + 1 if before is not None else 1,
        topology=str(topology_file),
        data=f"{plan.servers}:{plan.collection(plan.servers).workdir / plan.topology.sink.data}",
        submitted_s=time.time(),
        jobs=tuple(jobs),
        hosts=tuple(RecordedHost(name, each.workdir, each.folder) for name, each in plan.lab.places.items()),
    )


def _refuse_if_live(plan: Plan, before: Record | None, topology_file: Path) -> None:
    """Also if it was submitted from another machine, or on other hosts."""
    live = [f"{name} on {host}" for host, report in plan.reports.items() for name in report.live]
    if before is not None:
        others = lab_of_record(plan.topology, before)
        gone = [each.name for each in before.hosts if each.name not in plan.reports]
        seen = others.ask(lambda host: Check(others.places[host]), HostReport, hosts=gone)
        live += [f"{name} on {host}" for host, report in split(seen)[0].items() for name in report.live]
        for error in split(seen)[1]:
            sys.stderr.write(f"headrace submit: of the last submission, {error}\n")
    if live:
        many = f" and {len(live) - _NAMED} more" if len(live) > _NAMED else ""
        raise ConfigurationError(
            f"this collection runs already: {', '.join(live[:_NAMED])}{many}; look with: headrace status "
            f"{topology_file}; end it with: headrace cancel {topology_file}"
        )
