"""`headrace cancel` for a collection that was started over ssh: producers first, the sink last."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deploy.record import Record, SubmittedJob
from deploy.roles import SINK
from deploy.ssh.lab import Lab, lab_of_record, split
from deploy.ssh.link import PATIENCE_S, HostError
from deploy.ssh.orders import Stop, Stopped
from deploy.topology import Topology

# Programs that were asked to stop take up to 40 s.
_DRAIN_LIMIT_S = 120.0


def cancel(topology: Topology, record: Record, now: bool) -> int:
    """Returns when nothing of it is left on the hosts that answer; exit status 1 if one does not."""
    lab = lab_of_record(topology, record)
    asked, problems = 0, dict[str, HostError]()
    for kind in ("producers", "trainers", "servers"):
        stopped, silent = stop_kind(lab, record, kind, 0.0 if now else _DRAIN_LIMIT_S)
        problems |= silent
        asked += len(stopped)
        if stopped:
            _say(f"{kind}: asked {len(stopped)} to stop" if not now else f"{kind}: ended {len(stopped)}")
    for error in problems.values():
        sys.stderr.write(f"headrace cancel: {error}; what runs there goes on, cancel again when it answers\n")
    if problems:
        return 1
    if not asked:
        _say(f"nothing of {record.name} runs on {', '.join(lab.places)}")
    else:
        hosts = ",".join(host for host in lab.places if host != topology.ssh.servers)
        again = f"headrace submit {record.topology} --hosts {hosts}"
        _say(f"ended; every acknowledged episode is in {record.data}. To go on: {again}")
    return 0


def stop_kind(lab: Lab, record: Record, kind: str, limit_s: float) -> tuple[list[str], dict[str, HostError]]:
    """End programs of one kind on all hosts at once, the sink after the others.

    limit_s: until they are killed [s]; 0: at once. Returns those that ran, and hosts that do not answer.
    """
    jobs = [job for job in record.jobs if job.kind == kind]
    stopped, silent = _stop(lab, [job for job in jobs if job.name != SINK], limit_s)
    if sink := [job for job in jobs if job.name == SINK]:
        more, unasked = _stop(lab, sink, limit_s)
        return stopped + more, silent | unasked
    return stopped, silent


def _stop(lab: Lab, jobs: Sequence[SubmittedJob], limit_s: float) -> tuple[list[str], dict[str, HostError]]:
    names: dict[str, list[str]] = {}
    for job in jobs:
        names.setdefault(job.id, []).append(job.name)

    def order(host: str) -> Stop:
        return Stop(lab.places[host], tuple(names[host]), limit_s, now=limit_s == 0)

    # Whatever release is there by now: what runs has to be ended.
    answers = lab.ask(order, Stopped, limit_s + PATIENCE_S, hosts=list(names), any_release=True)
    good, _ = split(answers)
    for host, answer in good.items():
        for name in answer.killed:
            _say(f"{name} on {host} did not stop within {limit_s:.0f} s and was ended")
    return (
        [name for answer in good.values() for name in answer.asked],
        {host: answer for host, answer in answers.items() if isinstance(answer, HostError)},
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
