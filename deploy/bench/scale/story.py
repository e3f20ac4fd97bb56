"""One collection from its first Hello to its last Done: all compete, some die, some of those wake, the sink dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deploy.bench.scale.settings import PIECES, Settings
from deploy.bench.scale.world import SimulationError, World

SETTLE_S = 5.0
COMPETE_S = 35.0
DEAD_SHARE = 0.1
DOWN_S = 2.0
_LIMIT_S = 600.0


@dataclass
class Found:
    """What was seen. Times in simulated seconds.

    episodes_each: committed while all competed, of each producer. leased_again_s: from the death of its holder, of each
    index. zombies: those that woke again; zombie_indices: what they held that others had made meanwhile. alive: at the
    restart; back_s: from it until all had sessions; counts: of messages and header bytes in that time. peak_in_flight:
    share of credit.
    """

    episodes_each: list[int] = field(default_factory=list)
    disk_share: float = 0.0
    dead: int = 0
    leased_again_s: list[float] = field(default_factory=list)
    zombies: int = 0
    zombie_indices: int = 0
    alive: int = 0
    back_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    committed: int = 0
    lost: int = 0
    doubled: int = 0
    peak_in_flight: float = 0.0
    ended_s: float = 0.0


def jain(values: Sequence[int]) -> float:
    """Jain's index: 1 if all have the same, 1/n if one has everything."""
    squares = len(values) * sum(value * value for value in values)
    return sum(values) ** 2 / squares if squares else 0.0


def tell(settings: Settings, say: Callable[[str], None]) -> Found:
    """Simulate it. Raises SimulationError if it does not come to an end, or leaves something behind."""
    world, found = World(settings), Found()
    world.run(SETTLE_S)
    say(f"{len(world.producers)} producers compete for {COMPETE_S:.0f} s")
    _compete(world, found)
    say("a tenth of them dies")
    zombies = _some_die(world, found)
    say("half of those wake again")
    _some_wake(world, found, zombies)
    say("the sink is killed and starts again")
    _sink_dies(world, found)
    say("to the end")
    if not world.clock.run(world.clock.now + _LIMIT_S, world.all_gone):
        raise SimulationError(f"{len(world.alive())} producers have not ended after {_LIMIT_S:.0f} s more")
    world.run(settings.lease_s + 1)
    world.check_idle()
    found.ended_s = world.clock.now
    found.lost, found.doubled, found.committed = world.lost(), world.disk.doubled, len(world.disk.durable)
    found.peak_in_flight = world.sink.peak_in_flight / world.sink.config.credit_bytes
    return found


def _compete(world: World, found: Found) -> None:
    since = world.clock.now
    world.run(COMPETE_S)
    found.episodes_each = world.commits_by_producer(since)
    size = sum(found.episodes_each) * PIECES * world.settings.piece_bytes
    found.disk_share = size / COMPETE_S / world.settings.disk


def _some_die(world: World, found: Found) -> list[int]:
    """Returns the numbers of those that will wake again."""
    died_at, rng = world.clock.now, world.clock.rng
    dead = rng.sample(range(len(world.producers)), max(2, round(DEAD_SHARE * len(world.producers))))
    peers = {world.producers[number].peer for number in dead}
    for number in dead:
        world.producers[number].die()
    held = [index for index, peer in world.sink.leases() if peer in peers]
    world.sink.watched = dict.fromkeys(held)
    world.run(2 * world.settings.lease_s)
    # An End that was on its way when its producer died is committed all the same.
    again = {index: at for index, at in world.sink.watched.items() if index not in world.disk.durable or at}
    missing = [index for index, at in again.items() if at is None]
    if missing:
        raise SimulationError(f"indices {missing[:5]} of dead producers were not leased again")
    found.dead = len(dead)
    found.leased_again_s = [at - died_at for at in again.values() if at is not None]
    world.sink.watched = {}
    return dead[::2]


def _some_wake(world: World, found: Found, numbers: Sequence[int]) -> None:
    sleepers = [world.producers[number] for number in numbers]
    found.zombies = len(sleepers)
    found.zombie_indices = sum(index in world.disk.durable for sleeper in sleepers for index in sleeper.granted)
    for sleeper in sleepers:
        sleeper.wake()
    world.run(SETTLE_S)


def _sink_dies(world: World, found: Found) -> None:
    world.sink.crash()
    world.run(DOWN_S)
    found.alive = len(world.alive())
    before = world.sink.counts.copy()
    began = world.clock.now
    world.sink.start()
    if not world.clock.run(began + _LIMIT_S, world.all_welcome):
        raise SimulationError(f"not all producers have a session {_LIMIT_S:.0f} s after the restart")
    found.back_s = world.clock.now - began
    found.counts = dict(world.sink.counts - before)


def histogram(values: Sequence[int]) -> dict[str, int]:
    """How many have each value."""
    return {str(value): number for value, number in sorted(Counter(values).items())}
