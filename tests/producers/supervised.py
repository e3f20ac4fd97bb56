"""Workers that do what their options say, for the tests of the supervisor. No simulator."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

from producers.job import Job, Report, WorkerStats
from producers.supervisor import Channel
from protocol.errors import ConfigurationError


def finish(_: Job, channel: Channel) -> None:
    """Report one episode and end."""
    channel.send(Report("state", "working"))
    channel.send(Report("stats", stats=WorkerStats(episodes=1)))


def die_until_marked(job: Job, channel: Channel) -> None:
    """Die by SIGKILL as often as the options say, counting in a file, then finish."""
    path, times = job.options
    lives = len(Path(path).read_bytes()) if Path(path).exists() else 0
    with open(path, "ab") as file:
        file.write(b".")
    if lives < times:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(job, channel)


def refuse(_: Job, __: Channel) -> None:
    """Find that the flags are wrong."""
    raise ConfigurationError("expected this, found that")


def warn(_: Job, channel: Channel) -> None:
    """Log from two threads at once."""
    threads = [threading.Thread(target=_warn_often, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.send(Report("stats", stats=WorkerStats(episodes=1)))


def _warn_often(name: str) -> None:
    for number in range(50):
        logging.getLogger("somewhere").warning("%s says %d", name, number)


def wait_for_stop(_: Job, channel: Channel) -> None:
    """Work until told to stop."""
    channel.send(Report("state", "working"))
    while True:
        channel.stop.wait()
        channel.check()
