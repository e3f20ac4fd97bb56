"""Where a robosuite worker process begins. It alone imports the simulator, after its environment variables are set."""

from __future__ import annotations

import logging

from producers.job import Job
from producers.supervisor import Channel


def run(job: Job, channel: Channel) -> None:
    """Produce until the goal is met. Raises HeadraceError."""
    # PyOpenGL says at every import that its optional C module is not there.
    logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)
    from producers.robosuite.worker import RobosuiteWorker

    RobosuiteWorker(job, channel).run()
