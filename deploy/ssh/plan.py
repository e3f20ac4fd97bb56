"""What would run where: the answers of all hosts, and the programs of a topology placed on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.record import unreachable
from deploy.roles import INFERENCE, SINK, roles_of
from deploy.ssh.lab import Lab, all_of, lab_of
from deploy.ssh.link import headrace_words
from deploy.ssh.orders import Check, HostReport, Program
from deploy.ssh.placement import Placed, kind_of, place, program_of
from deploy.ssh.programs import Collection, script_of
from deploy.topology import Topology, absolute
from protocol.errors import ConfigurationError


@dataclass(frozen=True)
class Plan:
    """topology: as written, its paths relative to where programs run. placed: programs by host. servers: their host."""

    topology: Topology
    lab: Lab
    reports: Mapping[str, HostReport]
    placed: Mapping[str, Sequence[Placed]]
    servers: str

    def programs(self, host: str, *kinds: str) -> tuple[Program, ...]:
        """Of these kinds (`servers`, `trainers`, `producers`) on one host, with that host's paths."""
        here = absolute(self.topology, Path(self.reports[host].workdir))
        roles = {role.name: role for role in roles_of(here, here.folder / "logs")}
        addresses = {name: str(here.folder / f"{name}.json") for name in (SINK, INFERENCE)}
        chosen = [(roles[role.name], number) for role, number in self.placed[host] if kind_of(role) in kinds]
        return tuple(program_of(role, number, addresses) for role, number in chosen)

    def announcements(self) -> tuple[str, ...]:
        """Files of the servers, relative to where programs run."""
        names = [role.announces for role, _ in self.placed[self.servers] if role.announces]
        return tuple(str(self.topology.folder / f"{name}.json") for name in names)

    def collection(self, host: str) -> Collection:
        """Its folders there."""
        workdir = Path(self.reports[host].workdir)
        return Collection(workdir / self.topology.folder, workdir)


def look_at_hosts(topology: Topology, hosts: Sequence[str], cwd: Path) -> Plan:
    """Ask all hosts and place the programs; nothing is started.

    topology: as written. Raises HostError with a line for each host that cannot be used.
    """
    lab = lab_of(topology, hosts, cwd)
    with _something_to_see(topology, cwd) as seen:
        reports = all_of(lab.ask(lambda host: Check(lab.places[host], lab.settings.detach, seen), HostReport))
    servers = next(iter(lab.places))
    cores = {host: reports[host].cores for host in hosts}
    placed = place(roles_of(topology, topology.folder / "logs"), cores, servers)
    return Plan(topology, lab, reports, placed, servers)


def printed(plan: Plan) -> str:
    """Every script, and where it would run."""
    parts = []
    for host in plan.lab.places:
        headrace = headrace_words(plan.lab.link(host))
        for program in plan.programs(host, "servers", "trainers", "producers"):
            script = script_of(plan.collection(host), program, headrace, plan.lab.settings.setup)
            parts.append(f"# {program.name} on {host}, kept running by {plan.reports[host].detach}\n{script}")
    return "\n".join(parts)


@contextmanager
def _something_to_see(topology: Topology, cwd: Path) -> Iterator[str | None]:
    """If all machines are to share a folder: the path of a file in it, for as long as they look."""
    if not topology.ssh.shared:
        yield None
        return
    folder = absolute(topology, cwd).folder
    make_folder(folder)
    try:
        with tempfile.NamedTemporaryFile(prefix=".seen.", dir=folder) as file:
            yield file.name
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error


def make_folder(folder: Path) -> None:
    """For the record, on this machine. Raises ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
