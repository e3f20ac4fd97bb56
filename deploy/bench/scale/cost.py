"""What one message costs the sink's machine, by the number of producers.

The machine is pure: a collection is simulated once while all calls of the machine are written down, and then the same
calls are made again on a new machine. So nothing else is timed, and no clock is asked in between.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from deploy.bench.scale.settings import SPEC, Settings
from deploy.bench.scale.sink import Call
from deploy.bench.scale.world import World
from protocol.interval_set import IntervalSet
from protocol.sink_delivery import SinkDelivery

# All have their session and a lease, and the disk has more to do than it can.
_WARM_S = 10.0


@dataclass(frozen=True)
class Cost:
    """Processor time of the sink's machine, in microseconds."""

    producers: int
    messages: int
    episodes: int
    us_a_message: float
    us_an_episode: float


def measure(producers: int, messages: int, repeats: int = 3) -> Cost:
    """Of about so many messages, or of one episode of each if that is more; the median of the repetitions."""
    # An episode and the heartbeats meanwhile are about 16 messages in 7.5 s. All begin at once, and commit in waves.
    seconds = 7.5 * max(1.0, messages / producers / 16)
    world = World(Settings(producers, episodes=10**6))
    world.sink.journal = []
    with without_collector():
        world.run(_WARM_S)
        mark = len(world.sink.journal)
        world.run(seconds)
        journal = world.sink.journal
        taken = [_replay(world, journal, mark) for _ in range(repeats)]
    part = journal[mark:]
    messages = sum(name == "receive" for name, _ in part)
    episodes = sum(name == "committed" for name, _ in part)
    us = 1e6 * median(taken)
    return Cost(producers, messages, episodes, us / messages, us / max(episodes, 1))


def _replay(world: World, journal: list[Call], mark: int) -> float:
    """Processor time of all calls from `mark` on [s]."""
    machine = SinkDelivery(world.sink.config, 1, 0.0)
    for name, arguments in journal[:mark]:
        if name == "stream_opened":  # those sets have been filled meanwhile
            arguments = (arguments[0], SPEC, IntervalSet(), IntervalSet())
        getattr(machine, name)(*arguments)
    began = time.process_time()
    for name, arguments in journal[mark:]:
        getattr(machine, name)(*arguments)
    return time.process_time() - began


@contextmanager
def without_collector() -> Iterator[None]:
    """Thousands of producers in this process are garbage that a sink's process does not have to look through."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
