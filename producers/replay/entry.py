"""Where a replay worker process begins."""

from __future__ import annotations

from producers.job import Job
from producers.supervisor import Channel


def run(job: Job, channel: Channel) -> None:
    """Publish until every recorded episode is stored. Raises HeadraceError."""
    from producers.replay.worker import ReplayWorker

    ReplayWorker(job, channel).run()
