"""Where a NAMO worker process begins. It alone imports the simulator."""

from __future__ import annotations

from producers.job import Job
from producers.supervisor import Channel


def run(job: Job, channel: Channel) -> None:
    """Produce until every index is done. Raises HeadraceError."""
    from producers.namo.worker import NamoWorker

    NamoWorker(job, channel).run()
