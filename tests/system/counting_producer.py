"""A producer process: counted episodes through the publishing API. Writes down each Committed before anything else.

python -m tests.system.counting_producer ENDPOINT SUCCESSES LOG SECONDS_A_STEP
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.producer_delivery import Event
from tests.fakes import counting_spec, publish


def main(endpoint: str, successes: str, log: str, step_s: str) -> None:
    """Work until the goal is met."""
    file = os.open(Path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: Event) -> None:
        if event.kind in ("committed", "lost"):
            os.write(file, f"{event.kind} {event.index}\n".encode())

    spec, name = counting_spec(), f"counting-{os.getpid()}"
    goal = Goal(successes=int(successes))
    with Publisher(endpoint, spec, goal, PublisherConfig(name=name), on_event=note) as publisher:
        for index in publisher.leases():
            publish(publisher, index, pause=lambda: time.sleep(float(step_s)))
    os.write(file, b"done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
