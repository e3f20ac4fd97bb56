"""A producer process: counted episodes through the publishing API. Writes down each Committed before anything else.

python -m tests.system.counting_producer ENDPOINT SUCCESSES LOG SECONDS_A_STEP STOP_FILE

It leaves when the goal is met, or when STOP_FILE exists. Exit status 3: the sink refused it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ProtocolError, RefusedError
from protocol.producer_delivery import Event
from tests.fakes import counting_spec, publish

REFUSED = 3


def main(endpoint: str, successes: str, log: str, step_s: str, stop: str) -> int:
    """Work until the goal is met."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    file = os.open(Path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: Event) -> None:
        if event.kind in ("committed", "lost"):
            os.write(file, f"{event.kind} {event.index}\n".encode())
        if event.kind == "notice" and "disk full" in event.why:
            os.write(file, b"full 1\n")

    spec, name = counting_spec(), f"counting-{os.getpid()}"
    goal = Goal(successes=int(successes))
    counted = (0, 0)
    with Publisher(endpoint, spec, goal, PublisherConfig(name=name), on_event=note) as publisher:
        for index in publisher.leases():
            if counted != (publisher.sessions, publisher.resent):
                counted = (publisher.sessions, publisher.resent)
                os.write(file, b"sessions %d\nresent %d\n" % counted)
            if Path(stop).exists():
                publisher.abandon(index)
                break
            publish(publisher, index, pause=lambda: time.sleep(float(step_s)))
    os.write(file, b"done 1\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (RefusedError, ProtocolError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(REFUSED)
