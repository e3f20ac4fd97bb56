"""The actor that starts all others, in their order, and ends the servers when no producer is left."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Sequence

import msgspec
import ray
import ray.util

from deploy.ray.actor import leave
from deploy.ray.cluster import Cluster
from deploy.ray.draining import CONDUCTOR, drain_all
from deploy.ray.orders import log_of
from deploy.ray.plan import Actor, RayPlan
from deploy.ray.report import Report, read_report, write_report

_LOOK_S = 0.5
# It needs no room and does little: it is begun again wherever there is a node.
OPTIONS = {"num_cpus": 0, "max_restarts": 100, "lifetime": "detached", "name": CONDUCTOR, "max_concurrency": 2}


class Conductor:
    """Whatever it knows is in the plan, in Ray and in the reports, so that it can be begun again at any moment."""

    def __init__(self, plan: RayPlan) -> None:
        self._me = ray.get_runtime_context().current_actor
        self._plan, self._folder = plan, plan.topology.folder
        self._cluster = Cluster()
        before = read_report(self._folder, CONDUCTOR, plan.generation)
        life = before.life + 1 if before is not None else 1
        node = ray.util.get_node_ip_address()
        self._report = Report(CONDUCTOR, plan.generation, life, "RUNNING", node, time.time())
        write_report(self._folder, self._report)
        threading.Thread(target=self._run, name="conductor", daemon=True).start()

    def look(self) -> Report:
        """How it is."""
        return self._report

    def _run(self) -> None:
        try:
            reason = self._conduct()
            if reason:
                self._say(reason)
            drain_all(self._cluster, self._folder, self._plan.generation, self._say)
            told = {"state": "FAILED", "reason": "a server has ended", "exit_status": 1} if reason else {}
            self._report = msgspec.structs.replace(
                self._report, **{"state": "COMPLETED", "ended_s": time.time(), **told}
            )
            write_report(self._folder, self._report)
        except Exception:  # Ray, or the folder, is away for a while, or worse: the log of Ray's worker has it
            traceback.print_exc()
            os._exit(1)  # Ray begins it again
        leave(self._me)

    def _conduct(self) -> str:
        """Until no producer is left; returns what has gone wrong, or nothing."""
        servers = self._plan.named("servers")
        self._create(servers)
        while not self._ready(servers):
            if gone := self._gone(servers):
                return gone
            time.sleep(_LOOK_S)
        self._create(self._plan.named("trainers"))
        producers = self._plan.named("producers")
        self._create(producers)
        names = {actor.name for actor in producers}
        while self._cluster.names() & names:
            if gone := self._gone(servers):
                return gone
            time.sleep(_LOOK_S)
        return ""

    def _create(self, actors: Sequence[Actor]) -> None:
        """Those that have not begun yet."""
        there = self._cluster.names()
        for actor in actors:
            if actor.name not in there and read_report(self._folder, actor.name, self._plan.generation) is None:
                self._cluster.create(actor)

    def _ready(self, servers: Sequence[Actor]) -> bool:
        """Producers come after the servers, and do not take their room."""
        announced = [actor.orders.announcement for actor in servers]
        return all(path is not None and path.exists() for path in announced)

    def _gone(self, servers: Sequence[Actor]) -> str:
        """The sentence for a server that Ray will not begin again."""
        there = self._cluster.names()
        for actor in servers:
            if actor.name in there:
                continue
            if read_report(self._folder, actor.name, self._plan.generation) is None:
                return (
                    f"{actor.name} has ended without a word: do all nodes see {self._folder}, and have this Headrace? "
                    "Ray's own logs tell more; all others are asked to stop"
                )
            return f"{actor.name} has ended, see {actor.orders.log}; all others are asked to stop"
        return ""

    def _say(self, text: str) -> None:
        path = log_of(self._folder, CONDUCTOR, self._plan.generation)
        with path.open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
