"""What runs in a worker of Ray: one actor supervises one program, and ends with it."""

from __future__ import annotations

import os
import threading
from typing import Any

import ray
import ray.util

from deploy.ray.orders import Orders
from deploy.ray.program import ActorProgram
from deploy.ray.report import Report

_LEAVE_LIMIT_S = 30.0


class ProgramActor:
    """Begun by Ray, and begun again elsewhere when its node or its program is killed."""

    def __init__(self, orders: Orders) -> None:
        self._me = ray.get_runtime_context().current_actor
        self._program = ActorProgram(orders, ray.util.get_node_ip_address(), self._over)

    def look(self) -> Report:
        """How it is."""
        return self._program.report

    def stop(self) -> None:
        """Ask the program to end cleanly."""
        self._program.stop()

    def _over(self, report: Report) -> None:
        """Whatever it holds is free for others. One that was killed is Ray's to begin again."""
        if report.final:
            leave(self._me)
        os._exit(1)


def leave(me: Any) -> None:
    """Let Ray end this actor for good; does not return. Ray takes an end of its own for a loss."""
    ray.kill(me, no_restart=True)
    threading.Event().wait(_LEAVE_LIMIT_S)
    os._exit(1)
