"""Both delivery machines together, through everything that can go wrong.

`HEADRACE_SOAK_EXAMPLES=20000 pytest tests/protocol/test_delivery.py` runs that many random histories instead of the
few that are the same every time. A failure prints the steps and the seed that repeat it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.protocol.simulated.limits import LEASE_S, SETTLE_S
from tests.protocol.simulated.worker import Worker
from tests.protocol.simulated.world import SETUPS, Setup, World

SOAK_EXAMPLES = int(os.environ.get("HEADRACE_SOAK_EXAMPLES", "0"))

seeds = st.integers(0, 2**32 - 1)
pauses = st.sampled_from((0.0, 0.1, 0.5, 2.0))
whiles = st.sampled_from((0.5, 2.0, LEASE_S + 1, 3 * LEASE_S))


class Trouble(RuleBasedStateMachine):
    """Each rule is one thing that goes wrong; what must nevertheless hold is asserted by the simulation."""

    world: World

    @initialize(setup=st.sampled_from(SETUPS), seed=seeds)
    def begin(self, setup: Setup, seed: int) -> None:
        self.world = World(setup, seed)

    def _worker(self, number: int) -> Worker:
        workers = self.world.active()
        return workers[number % len(workers)]

    @rule(seconds=st.sampled_from((0.1, 0.5, 1.0, 3.0, 10.0)))
    def pass_time(self, seconds: float) -> None:
        self.world.run(seconds)

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4), pause=pauses)
    def cut_connection(self, number: int, pause: float) -> None:
        self.world.links[self._worker(number).peer].cut()
        self.world.run(pause)

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4), seconds=whiles)
    def swallow_messages(self, number: int, seconds: float) -> None:
        self.world.links[self._worker(number).peer].dead_until = self.world.now + seconds

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4))
    def connection_that_only_seems_open(self, number: int) -> None:
        self.world.links[self._worker(number).peer].half_open = True

    @rule()
    def impostor(self) -> None:
        self.world.sink.meet_impostor()

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4), times=st.integers(1, 5))
    def repeat_messages(self, number: int, times: int) -> None:
        self.world.links[self._worker(number).peer].repeat = times

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4))
    def slow_connection(self, number: int) -> None:
        self.world.links[self._worker(number).peer].slow = 0.7

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4), seconds=whiles, pause=pauses)
    def hang(self, number: int, seconds: float, pause: float) -> None:
        self._worker(number).hang(seconds)
        self.world.run(pause)

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4), pause=pauses, same_peer=st.booleans())
    def kill_and_replace(self, number: int, pause: float, same_peer: bool) -> None:
        worker = self._worker(number)
        worker.kill()
        self.world.run(pause)
        self.world.add_worker(worker.spec, worker.goal, worker.peer if same_peer else None)

    @precondition(lambda self: self.world.active())
    @rule(number=st.integers(0, 4))
    def abandon(self, number: int) -> None:
        self._worker(number).abandon()

    @precondition(lambda self: len(self.world.active()) < 6)
    @rule(number=st.integers(0, 4))
    def one_more_producer(self, number: int) -> None:
        goals = self.world.goals
        self.world.add_worker(*goals[number % len(goals)])

    @rule(down_s=st.sampled_from((0.0, 0.5, 5.0, 20.0)), pause=pauses)
    def crash_sink(self, down_s: float, pause: float) -> None:
        self.world.sink.crash(down_s)
        self.world.run(pause)

    @rule(down_s=st.sampled_from((0.5, 5.0)), pause=pauses)
    def stop_sink(self, down_s: float, pause: float) -> None:
        self.world.sink.drain()
        self.world.run(pause)
        self.world.sink.crash(down_s)

    @rule(seconds=whiles)
    def stall_disk(self, seconds: float) -> None:
        self.world.disk.stalled_until = self.world.now + seconds

    @rule(times=st.integers(1, 2), pause=pauses)
    def reject_data(self, times: int, pause: float) -> None:
        self.world.disk.reject_next = times
        self.world.run(pause)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


TestTrouble = pytest.mark.timeout(0 if SOAK_EXAMPLES else 600)(Trouble.TestCase)
TestTrouble.settings = settings(
    max_examples=SOAK_EXAMPLES or 1000,
    derandomize=not SOAK_EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("setup", SETUPS)
def test_without_trouble_everything_is_done_in_the_first_attempt(setup: Setup) -> None:
    world = World(setup, seed=1)
    world.run(1.0)
    world.disk.stalled_until = world.now + 2 * LEASE_S
    world.run(2 * LEASE_S)
    world.settle()
    assert world.sink.life == 1
    assert world.sink.welcomes == len(world.workers)
    assert world.disk.commits == len(world.disk.episodes) > 0
    assert "unknown_session" not in world.sink.refusals


@pytest.mark.parametrize("setup", SETUPS)
def test_a_slow_network_is_no_reason_not_to_come_to_an_end(setup: Setup) -> None:
    world = World(setup, seed=1)
    for link in world.links.values():
        link.slow = 1.4
    assert world.run(SETTLE_S, until=lambda: not world.active())
    world.settle()
