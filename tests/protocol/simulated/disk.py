"""The writer and what it has made durable: the oracle of the simulated world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import accumulate, count
from typing import TYPE_CHECKING

from protocol.messages import Outcome
from protocol.orders import Append, Attempt, Finish, Forget, Keep, Order
from tests.protocol.simulated.episodes import Key, Payload, columns, frame, outcome_of, steps_of

if TYPE_CHECKING:
    from tests.protocol.simulated.sink import Sink
    from tests.protocol.simulated.world import World


class Disk:
    """The writer and what it has made durable. One order at a time, in order; results reach the sink a little later."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.episodes: dict[Key, Outcome] = {}  # durable
        self.authors: dict[Key, str] = {}
        self.documents: set[tuple[str, str]] = set()  # durable; stream, sha256
        self.reject_next = 0
        self.stalled_until = 0.0
        self.life = 0
        self.commits = self.rejections = 0
        self._reset()

    def _reset(self) -> None:
        self.held_bytes = 0
        self._queue: list[tuple[Order, Payload]] = []
        self._busy = False
        self._frames: dict[int, list[bytes]] = {}
        self._bad: set[int] = set()
        self._kept: dict[tuple[str, int, str], bytes] = {}
        self._last_result = 0.0

    def crash(self) -> None:
        """Everything goes but what is durable."""
        self.life += 1
        self._reset()

    def heal(self) -> None:
        """No further trouble from here."""
        self.reject_next, self.stalled_until = 0, 0.0

    def indices(self, stream: str, *outcomes: Outcome) -> list[int]:
        """What is durable."""
        return sorted(i for (s, i), o in self.episodes.items() if s == stream and (not outcomes or o in outcomes))

    def put(self, order: Order, payload: Payload) -> None:
        """Queue an order of the sink."""
        self.held_bytes += sum(map(len, payload))
        self._queue.append((order, payload))
        self._next()

    def _next(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        rng, life = self.world.rng, self.life
        slowness = (0.0, 0.1, 2.0) if isinstance(self._queue[0][0], Finish) else (0.0, 0.01, 0.1)
        time = max(self.world.now, self.stalled_until) + rng.choice(slowness) * rng.random()
        self.world.at(time, lambda: self._work() if life == self.life else None)

    def _work(self) -> None:
        self._busy = False
        if self.world.now < self.stalled_until:
            self._next()
            return
        order, payload = self._queue.pop(0)
        match order:
            case Append():
                self._append(order, payload)
            case Finish():
                self._finish(order, payload)
            case Forget():
                self._frames.pop(order.attempt.number, None)
            case Keep():
                assert hashlib.sha256(payload[0]).hexdigest() == order.sha256
                self._kept[order.stream, order.session, order.sha256] = payload[0]
                self._consumed(order.session, order.size)
        self._next()

    def _append(self, order: Append, payload: Payload) -> None:
        number = order.attempt.number
        if number not in self._bad:
            frames = self._frames.setdefault(number, [])
            each = len(order.sizes) // order.count
            assert order.first * each == len(frames), f"{order} after {len(frames)} frames"
            ends = list(accumulate(order.sizes))
            assert ends[-1] == len(payload[0])
            frames.extend(payload[0][end - size : end] for size, end in zip(order.sizes, ends, strict=True))
            if self.reject_next:
                self._reject(order.attempt)
        self._consumed(order.attempt.session, order.size)

    def _finish(self, order: Finish, payload: Payload) -> None:
        attempt = order.attempt
        if attempt.number in self._bad or self.reject_next:
            # A rejection that the sink may have heard already: it must not matter.
            self._reject(attempt)
            self._consumed(attempt.session, order.size)
            return
        self._check_content(order, payload)
        key = (attempt.stream, attempt.index)
        assert key not in self.episodes, f"{key} is committed twice"
        self.episodes[key], self.authors[key] = order.end.outcome, attempt.producer
        self.documents |= {(attempt.stream, sha256) for sha256 in order.end.documents}
        self.commits += 1
        self._consumed(attempt.session, order.size)
        self._result(lambda sink: sink.committed(attempt, order.end.outcome))
        self._check_limits(attempt.stream)

    def _reject(self, attempt: Attempt) -> None:
        self.reject_next = max(self.reject_next - 1, 0)
        self.rejections += 1
        self._bad.add(attempt.number)
        self._result(lambda sink: sink.rejected(attempt))

    def _consumed(self, session: int, size: int) -> None:
        self._result(lambda sink: sink.consumed(session, size))

    def _result(self, tell: Callable[[Sink], None]) -> None:
        world, life = self.world, self.life
        delay = world.rng.choice((0.0, 0.0, 0.2, 1.0)) * world.rng.random()
        self._last_result = max(self._last_result, world.now + delay)
        world.at(self._last_result, lambda: tell(world.sink) if life == self.life else None)

    def _check_content(self, order: Finish, payload: Payload) -> None:
        attempt, end = order.attempt, order.end
        spec = self.world.sink.specs[attempt.stream]
        made_in = json.loads(payload[0])["attempt"]
        steps, cameras = steps_of(spec, attempt.index), len(spec.cameras)
        expected = [frame(attempt.index, s, c, made_in) for s in range(steps) for c in range(cameras)]
        assert self._frames.pop(attempt.number, []) == expected, f"{attempt}: frames of other steps or attempts"
        assert payload[1:] == columns(spec, attempt.index)
        assert (end.index, end.outcome, end.steps) == (attempt.index, outcome_of(attempt.index), steps)
        for sha256 in end.documents:
            kept = (attempt.stream, attempt.session, sha256) in self._kept
            assert kept or (attempt.stream, sha256) in self.documents, f"{attempt}: a document did not come before End"

    def _check_limits(self, stream: str) -> None:
        for spec, goal in self.world.goals:
            if spec.name == stream and goal.successes is not None:
                assert len(self.indices(stream, Outcome.SUCCESS)) <= goal.successes, f"more successes than {goal}"

    def check_goals(self) -> None:
        """What must be there at the end: neither less nor more."""
        for task in self.world.setup.tasks:
            expected: set[int] = set()
            for goal in task.goals:
                if goal.successes is None:
                    assert goal.end is not None
                    expected |= set(range(goal.start, goal.end))
                else:
                    found = 0
                    for index in count(goal.start):
                        if index == goal.end or found == goal.successes:
                            break
                        expected.add(index)
                        found += outcome_of(index) is Outcome.SUCCESS
            assert self.indices(task.spec.name) == sorted(expected)
