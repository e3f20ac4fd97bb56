"""The connection of one producer: keeps its order, loses everything in flight when it is made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.bench.scale.clock import Clock
from deploy.bench.scale.settings import Settings

Up = tuple[bytes, tuple[int, ...]]  # header, sizes of the payload frames


class Network:
    """What all connections share: the way into the sink's machine."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self.clock = clock
        self._rate, self._delay_s = settings.network, settings.delay_s
        self._free_at = 0.0

    def delay(self) -> float:
        """Of one connection, one way."""
        return self._delay_s * self.clock.rng.uniform(0.05, 1.0)

    def pass_through(self, time: float, size: int) -> float:
        """When so many bytes have arrived, if their first could at `time`."""
        self._free_at = max(self._free_at, time) + size / self._rate
        return self._free_at


@dataclass
class Ends:
    """What a connection leads to."""

    to_sink: Callable[[list[Up]], None]
    to_producer: Callable[[list[bytes]], None]


class Link:
    """Between one producer and the sink."""

    def __init__(self, network: Network, ends: Ends) -> None:
        self._network, self._ends = network, ends
        self._delay = network.delay()
        self._last_up = self._last_down = 0.0
        self._number = 0
        self.down_since: list[list[Up]] | None = None  # what was sent while nobody was there

    def up(self, messages: list[Up]) -> None:
        """Producer → sink."""
        if self.down_since is not None:
            self.down_since.append(messages)
            return
        clock = self._network.clock
        size = sum(len(header) + sum(sizes) for header, sizes in messages)
        arrives = self._network.pass_through(clock.now + self._delay, size)
        self._last_up = max(self._last_up, arrives)
        number = self._number
        clock.at(self._last_up, lambda: self._ends.to_sink(messages) if number == self._number else None)

    def down(self, headers: list[bytes], at: float) -> None:
        """Sink → producer, sent at a time."""
        self._last_down = max(self._last_down, at + self._delay)
        number = self._number
        clock = self._network.clock
        clock.at(self._last_down, lambda: self._ends.to_producer(headers) if number == self._number else None)

    def renew(self) -> None:
        """The producer makes a new connection; what is in flight, or waits, is lost."""
        self._number += 1
        if self.down_since is not None:
            self.down_since.clear()

    def lose_sink(self) -> None:
        """The sink is gone: what is in flight is lost, and what is sent now waits in the producer."""
        self._number += 1
        self.down_since = []

    def find_sink(self) -> None:
        """The sink is there again."""
        waiting: Sequence[list[Up]] = self.down_since or ()
        self.down_since = None
        for messages in waiting:
            self.up(messages)
