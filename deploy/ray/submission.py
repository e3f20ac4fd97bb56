"""Handing a collection to a Ray cluster: looked at first, then all of it or nothing."""

from __future__ import annotations

import time
from pathlib import Path

import ray

from deploy.collection_keys import ensure_keys
from deploy.ray.cluster import Cluster, RayError, connected
from deploy.ray.conductor import OPTIONS, Conductor
from deploy.ray.draining import CONDUCTOR, end_all
from deploy.ray.orders import log_of
from deploy.ray.plan import RayPlan, plan_actors
from deploy.ray.report import FOLDER, read_report
from deploy.ray.room import check_room
from deploy.record import (
    RECORD,
    Record,
    SubmittedJob,
    check_engine,
    only_one,
    read_record,
    unreachable,
    write_record,
)
from deploy.topology import Topology
from protocol.errors import ConfigurationError

# For a worker of Ray to begin and import Headrace, also on a busy machine [s].
_BEGIN_LIMIT_S = 120.0


def submit_to_ray(topology: Topology, cwd: Path, file: Path) -> Record:
    """topology: with absolute paths. file: the one it is from. Returns when the conductor has begun.

    Raises ConfigurationError if the collection is live, if no node has what it asks for, or if the shared folder cannot
    be used; RayError if the cluster does not answer, or its nodes cannot run Headrace. Then nothing of it runs.
    """
    folder = topology.folder
    try:
        for each in (folder, folder / "logs", folder / FOLDER):
            each.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
    with only_one(folder):
        before = read_record(folder)
        check_engine(before, "ray", folder)
        plan = plan_actors(topology, cwd, before.generation + 1 if before is not None else 1)
        with connected(topology.ray.address, plan.namespace) as cluster:
            _refuse_if_live(cluster, before, folder)
            check_room(plan.actors, cluster.nodes())
            if topology.security is not None:
                ensure_keys(topology.security)
            _forget_announcements(plan)
            record = _record(plan, file, cluster.address)
            write_record(folder, record)
            _begin(cluster, plan)
    return record


def _record(plan: RayPlan, file: Path, address: str) -> Record:
    topology, generation = plan.topology, plan.generation
    jobs = []
    for actor in plan.actors:
        role = actor.orders.role
        tasks = role.count if actor.number is not None else None
        log = log_of(topology.folder, f"{role.name}.*" if tasks is not None else role.name, generation)
        job = SubmittedJob(role.name, actor.kind, role.name, tasks, str(log))
        if job not in jobs:
            jobs.append(job)
    jobs.append(SubmittedJob(CONDUCTOR, "end", CONDUCTOR, None, str(log_of(topology.folder, CONDUCTOR, generation))))
    return Record(
        engine="ray",
        name=topology.name or "collection",
        generation=generation,
        topology=str(file),
        data=topology.sink.data,
        submitted_s=time.time(),
        jobs=tuple(jobs),
        address=address,
    )


def _begin(cluster: Cluster, plan: RayPlan) -> None:
    conductor = ray.remote(Conductor).options(**OPTIONS).remote(plan)
    try:
        ray.get(conductor.look.remote(), timeout=_BEGIN_LIMIT_S)
    except ray.exceptions.GetTimeoutError as error:
        end_all(cluster, {CONDUCTOR})
        raise RayError(
            f"no node has begun an actor within {_BEGIN_LIMIT_S:.0f} s; does `ray status` show nodes that are alive?"
        ) from error
    except ray.exceptions.RayError as error:
        end_all(cluster, {CONDUCTOR})
        lines = str(error).strip().splitlines()
        raise RayError(
            f"the cluster cannot run the conductor of this collection: {lines[-1]}. Expected the same Headrace on each "
            f"node, and the folder {plan.topology.folder}"
        ) from error


def _refuse_if_live(cluster: Cluster, before: Record | None, folder: Path) -> None:
    live = sorted(cluster.names())
    if live and before is not None:
        shown = ", ".join(live[:4]) + (f" and {len(live) - 4} more" if len(live) > 4 else "")
        raise ConfigurationError(
            f"generation {before.generation} of this collection is not over: actor {shown} (record in {folder}); "
            f"end it with: headrace cancel {before.topology}"
        )
    if live:
        raise ConfigurationError(f"actors of this collection are live, and {folder} has no record of them any more")
    if before is None or before.address == cluster.address:
        return
    conductor = read_report(folder, CONDUCTOR, before.generation)
    if conductor is None or not conductor.final:
        raise ConfigurationError(
            f"generation {before.generation} was submitted to another Ray cluster, at {before.address}, and has not "
            f"said that it is over; end it with: headrace cancel {before.topology}. If that cluster has been gone "
            f"for a minute, remove {folder / RECORD}"
        )


def _forget_announcements(plan: RayPlan) -> None:
    """Those of an earlier generation lead nowhere, and nobody of it is left."""
    try:
        for actor in plan.actors:
            if actor.orders.announcement is not None:
                actor.orders.announcement.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(unreachable(plan.topology.folder, error)) from error
