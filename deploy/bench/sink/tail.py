"""A reader that follows: `python -m deploy.bench.sink.tail DIR`. Looks for new episodes every 50 ms until it is ended.

Of each it reads the row and the actions, as a trainer does that keeps its index of samples up to date.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from protocol.dataset_view import DatasetView

POLL_S = 0.05


@dataclass(frozen=True)
class TailFlags:
    """Follow a dataset."""

    data: Path
    """Dataset directory."""


def main(argv: Sequence[str] | None = None) -> int:
    """Follow until SIGTERM, then print how many episodes and steps were seen."""
    flags = tyro.cli(TailFlags, prog="deploy.bench.sink.tail", args=argv)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    episodes = steps = 0
    with DatasetView(flags.data) as view:
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        last_round = False
        while not last_round:
            last_round = stop.is_set()
            for episode in view.new_episodes():
                episodes += 1
                steps += len(episode.column("action"))
            stop.wait(POLL_S)
    sys.stdout.write(f"{episodes} {steps}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
