"""`headrace submit`: hand a collection to a cluster, or to machines that are reached with ssh."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from deploy.slurm.plan import plan_jobs
from deploy.slurm.submission import printed, submit_jobs
from deploy.ssh.plan import look_at_hosts
from deploy.ssh.plan import printed as printed_for_hosts
from deploy.ssh.settings import parse_hosts
from deploy.ssh.submission import submit_to_hosts, told
from deploy.topology import Topology, absolute, read_topology
from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError


@dataclass(frozen=True)
class SubmitFlags:
    """Start the collection of a topology file elsewhere: sink and inference server, trainers, producers."""

    topology: Positional[Path]
    """Topology file, see deploy/slurm.example.toml and deploy/ssh.example.toml."""
    slurm: bool = False
    """Submit to Slurm: servers as one job, producers as arrays that begin after it."""
    hosts: str | None = None
    """Machines a,b,c that are reached with ssh: servers on the first one, producers on all."""
    print_only: bool = False
    """Print what would be submitted, and do nothing; hosts are asked whether they could."""


def main(argv: Sequence[str] | None = None) -> int:
    """Submit, or print. Raises HeadraceError."""
    flags = tyro.cli(SubmitFlags, prog="headrace submit", args=argv)
    if flags.slurm == (flags.hosts is not None):
        raise ConfigurationError(f"expected one engine: headrace submit {flags.topology} --slurm, or --hosts a,b,c")
    if flags.hosts is not None:
        return _submit_to_hosts(flags.topology, flags.hosts, flags.print_only)
    topology = absolute(read_topology(flags.topology), Path.cwd())
    plan = plan_jobs(topology, Path.cwd())
    if flags.print_only:
        sys.stdout.write(printed(plan))
        return 0
    _advise(topology)
    record = submit_jobs(plan, flags.topology.absolute())
    for job in record.jobs:
        tasks = f" with {job.tasks} tasks" if job.tasks is not None else ""
        sys.stdout.write(f"{job.name}: job {job.id}{tasks}\n")
    sys.stdout.write(f"logs and announcements: {topology.folder}\n")
    sys.stdout.write(f"look with: headrace status {flags.topology}; end it with: headrace cancel {flags.topology}\n")
    return 0


def _submit_to_hosts(file: Path, hosts: str, print_only: bool) -> int:
    plan = look_at_hosts(read_topology(file), parse_hosts(hosts), Path.cwd())
    if print_only:
        sys.stdout.write(printed_for_hosts(plan))
        return 0
    submit_to_hosts(plan, file.absolute(), Path.cwd())
    if any(host != plan.servers for host in plan.placed):
        _advise(plan.topology)
    sys.stdout.write(told(plan))
    sys.stdout.write(f"look with: headrace status {file}; end it with: headrace cancel {file}\n")
    return 0


def _advise(topology: Topology) -> None:
    if is_loopback(topology.sink.bind):
        sys.stderr.write(
            f"headrace submit: the sink will listen on {topology.sink.bind}, which only its own node reaches; for "
            'producers on other nodes give [sink] bind = "tcp://0.0.0.0:0" and [security] keys = "DIRECTORY"\n'
        )


if __name__ == "__main__":
    sys.exit(main())
