"""A producer on another host: large episodes through the publishing API. Writes down what happens, and when.

python -m tests.hosts.producer ENDPOINT KEY NAME LOG STEPS SECONDS_A_STEP STOP_FILE

A line of the log is `SECONDS WORD NUMBER`, the seconds of the monotonic clock, which all hosts of a test share. Words:
leased, committed, lost (an index), session, resent (how many so far). It leaves between two episodes when STOP_FILE
exists, so that no index is left out.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.producer_delivery import Event
from tests.fakes import publish
from tests.hosts.large_episodes import large_episode, large_spec


def main(endpoint: str, key: str, name: str, log: str, steps: str, step_s: str, stop: str) -> None:
    """Work until told to stop."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(word: str, number: int) -> None:
        os.write(file, f"{time.monotonic():.3f} {word} {number}\n".encode())

    def hear(event: Event) -> None:
        if event.kind in ("leased", "committed", "lost") and event.index is not None:
            note(event.kind, event.index)
        if event.kind == "welcome":
            note("session", publisher.sessions)
            note("resent", publisher.resent)

    config = PublisherConfig(name=name, key=Path(key), max_ahead_episodes=4)
    with Publisher(endpoint, large_spec(int(steps)), Goal(), config, on_event=hear) as publisher:
        for index in publisher.leases():
            publish(publisher, index, lambda: time.sleep(float(step_s)), large_episode)
            if Path(stop).exists():
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
