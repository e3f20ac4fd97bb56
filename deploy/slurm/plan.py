"""The jobs of a collection: servers, trainers, producers as arrays, and one that ends the servers when all is done."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.roles import Role, roles_of
from deploy.slurm.script import Frame, end_script, producers_script, servers_script, trainer_script
from deploy.topology import Resources, Topology

JobKind = Literal["servers", "trainers", "producers", "end"]


@dataclass(frozen=True)
class BatchJob:
    """after: names of jobs that have begun (`after`) or ended (`afterany`) before this one. log: a file, or a pattern.

    script: None for the last one, which names the ids of others: `script_of_end`.
    """

    name: str
    kind: JobKind
    script: str | None
    log: Path
    tasks: int | None = None
    after: tuple[str, ...] = ()
    relation: Literal["after", "afterany"] = "after"

    def dependency(self, ids: Mapping[str, str]) -> str | None:
        """As sbatch takes it. ids: of the jobs that were submitted."""
        return ":".join([self.relation, *(ids[name] for name in self.after)]) if self.after else None


@dataclass(frozen=True)
class Plan:
    """All jobs in the order of submission."""

    topology: Topology
    frame: Frame
    jobs: tuple[BatchJob, ...]

    def script(self, job: BatchJob, ids: Mapping[str, str]) -> str:
        """A job's script. ids: of the jobs that were submitted before it."""
        if job.script is not None:
            return job.script
        trainers = [ids[each.name] for each in self.jobs if each.kind == "trainers"]
        options = self.topology.slurm.placement("servers").options()
        return end_script(self.frame, trainers, [ids["servers"]], options)


def plan_jobs(topology: Topology, cwd: Path) -> Plan:
    """topology: with absolute paths. cwd: where programs run.

    Raises ConfigurationError for what sbatch cannot be told.
    """
    slurm, folder = topology.slurm, topology.folder
    roles = roles_of(topology, folder / "logs")
    addresses = {role.announces: str(folder / f"{role.announces}.json") for role in roles if role.announces}
    python = slurm.python or sys.executable
    headrace = (python, "-m", "deploy.main")
    frame = Frame(topology.name or "collection", folder, cwd, headrace, slurm.setup, addresses)
    servers = [role for role in roles if role.announces]
    script = servers_script(frame, servers, _sum(servers), slurm.placement("servers").options())
    jobs = [BatchJob("servers", "servers", script, frame.log("servers-%j"))]
    for role in roles:
        if role.kind == "trainer":
            script = trainer_script(frame, role, slurm.placement("trainers").options())
            jobs.append(BatchJob(role.name, "trainers", script, frame.log(f"{role.name}-%j"), after=("servers",)))
    for role in roles:
        if role.kind == "producers":
            script = producers_script(frame, role, slurm.placement("producers").options(), slurm.max_running)
            log = frame.log(f"{role.name}-%A_%a")
            jobs.append(BatchJob(role.name, "producers", script, log, role.count, ("servers",)))
    producers = tuple(job.name for job in jobs if job.kind == "producers")
    end = BatchJob("end", "end", None, frame.log("end-%j"), after=producers, relation="afterany")
    return Plan(topology, frame, (*jobs, end))


def _sum(roles: Sequence[Role]) -> Resources:
    """Of programs that share one job; its time is the longest."""
    found = [role.resources for role in roles]
    memory = [each.memory_mib for each in found]
    limits = [each for each in found if each.time_limit is not None]
    return Resources(
        cpus=sum(each.cpus or 1 for each in found),
        memory_mib=None if None in memory else sum(each or 0 for each in memory),
        gpus=sum(each.gpus for each in found),
        time_limit=max(limits, key=lambda each: each.seconds or 0).time_limit if limits else None,
    )


def placeholder_ids(plan: Plan) -> dict[str, str]:
    """For scripts that are only printed."""
    return {job.name: f"ID_OF_{job.name.upper().replace('-', '_')}" for job in plan.jobs}
