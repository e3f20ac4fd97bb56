"""A program of the user's own that publishes counted episodes: python -m tests.slurm.counting_worker SUCCESSES STEP_S

It finds its sink and its key as a topology's programs do, in its environment. At SIGTERM it commits what is whole.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress

from producers.publisher import Goal, Publisher
from tests.fakes import counting_spec, publish

INTERRUPTED = 130
FLUSH_S = 10.0
log = logging.getLogger("counting")


class _StoppedError(Exception):
    """SIGTERM has come."""


def main(successes: str, step_s: str) -> int:
    """Work until the goal is met, or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def check() -> None:
        if stop.is_set():
            raise _StoppedError

    def check_deadline(deadline: float) -> None:
        if time.monotonic() > deadline:
            raise _StoppedError

    with Publisher(os.environ["HEADRACE_SINK"], counting_spec(), Goal(successes=int(successes))) as publisher:
        try:
            for index in publisher.leases(check):
                publish(publisher, index, pause=lambda: time.sleep(float(step_s)))
        except _StoppedError:
            log.info("stopped on request")
            deadline = time.monotonic() + FLUSH_S
            with suppress(_StoppedError):
                publisher.flush(lambda: check_deadline(deadline))
            publisher.close(flush=False)  # what a sink that has gone did not commit goes back to its pool
    log.info("left after %d committed episodes", publisher.committed)
    return INTERRUPTED if stop.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
