"""The actor that starts all others, in their order, and ends the servers when no producer is left."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import ray
import ray.util

from deploy.ray.cluster import Cluster
from deploy.ray.draining import CONDUCTOR, drain_all
from deploy.ray.orders import log_of
from deploy.ray.plan import Actor, RayPlan
from deploy.ray.report import Report, read_report, report_file, write_report
from protocol.errors import HeadraceError

_LOOK_S = 0.5
# It needs no room and does little: it is begun again wherever there is a node.
OPTIONS = {"num_cpus": 0, "max_restarts": -1, "lifetime": "detached", "name": CONDUCTOR, "max_concurrency": 2}


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
        report_file(self._folder, CONDUCTOR).parent.mkdir(parents=True, exist_ok=True)
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
            state = "FAILED" if reason else "COMPLETED"
            ended = {"state": state, "reason": reason, "exit_status": int(bool(reason)), "ended_s": time.time()}
            self._report = msgspec.structs.replace(self._report, **ended)
            write_report(self._folder, self._report)
        except (HeadraceError, OSError, ray.exceptions.RayError) as error:
            sys.stderr.write(f"{CONDUCTOR}: {type(error).__name__}: {error}\n")
            os._exit(1)  # Ray begins it again
        ray.kill(self._me, no_restart=True)
        os._exit(1)

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
            if actor.name not in there:
                return f"{actor.name} has ended, see {actor.orders.log}; all others are asked to stop"
        return ""

    def _say(self, text: str) -> None:
        path = log_of(self._folder, CONDUCTOR, self._plan.generation)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
