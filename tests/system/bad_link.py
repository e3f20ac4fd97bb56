"""A TCP connection that can be hurt: cut, stalled, delayed, swallowed, truncated, repeated, flipped."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

UP, DOWN = "to the sink", "to the producer"
DIRECTIONS = (UP, DOWN)
_TICK_S = 0.1

# What becomes of a piece of the stream, and whether the connection ends with it; None: not this piece, the next.
Spoiler = Callable[[bytes], tuple[bytes, bool] | None]


class _Pair:
    """One connection through the link. `far` is None while the network is a black hole."""

    def __init__(self, near: socket.socket, far: socket.socket | None) -> None:
        self.near, self.far = near, far
        self.ending = self.reset = False
        self.pumps = 0

    def close(self) -> None:
        for end in (self.near, self.far):
            if end is not None:
                if self.reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()


class BadLink:
    """Listens in front of a port of this machine. Every method returns at once; what it does passes by itself."""

    def __init__(self, port: int, seed: int) -> None:
        self._target = ("127.0.0.1", port)
        self._rng = random.Random(seed)
        self._changed = threading.Condition()
        self._held = dict.fromkeys(DIRECTIONS, 0.0)
        self._lag_s = self._lag_until = self._swallow_until = 0.0
        self._spoilers: dict[str, Spoiler] = {}
        self._pairs: set[_Pair] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.settimeout(_TICK_S)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    def __enter__(self) -> BadLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and every thread."""
        self._closed = True
        self.cut(reset=False)
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    # --- faults -----------------------------------------------------------------------------------------------

    def cut(self, reset: bool) -> None:
        """End the connections, by RST or by FIN."""
        with self._changed:
            for pair in self._pairs:
                pair.ending, pair.reset = True, reset
            self._changed.notify_all()

    def stall(self, seconds: float, *directions: str) -> None:
        """Nothing goes through for a while; then all of it does."""
        with self._changed:
            for direction in directions:
                self._held[direction] = time.monotonic() + seconds

    def delay(self, seconds: float, lag_s: float) -> None:
        """For a while, each piece comes later by up to lag_s."""
        self._lag_s, self._lag_until = lag_s, time.monotonic() + seconds

    def swallow(self, seconds: float) -> None:
        """The network is gone: bytes vanish, connections stay open, new ones lead nowhere. Then they are cut."""
        self._swallow_until = time.monotonic() + seconds

    def restore(self) -> None:
        """The network is back."""
        self._swallow_until = 0.0

    def truncate(self, direction: str) -> None:
        """Of the next piece a part gets through, and the connection ends."""
        self._spoilers[direction] = lambda data: (data[: self._rng.randrange(len(data))], True)

    def repeat(self, direction: str) -> None:
        """A part of the next piece comes twice."""

        def twice(data: bytes) -> tuple[bytes, bool]:
            first, end = sorted(self._rng.choices(range(len(data) + 1), k=2))
            first, end = (first, end) if first < end else (0, len(data))
            return data[:end] + data[first:], False

        self._spoilers[direction] = twice

    def flip(self) -> None:
        """One bit in the next image is another."""

        def flipped(data: bytes) -> tuple[bytes, bool] | None:
            start = data.find(b"\xff\xd8\xff")
            if start < 0 or start + 700 > len(data):
                return None
            spoiled = bytearray(data)
            spoiled[start + self._rng.randrange(640, 700)] ^= 1 << self._rng.randrange(8)
            return bytes(spoiled), False

        self._spoilers[UP] = flipped

    # --- threads ----------------------------------------------------------------------------------------------

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="link", daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        thread.start()

    @property
    def _swallowing(self) -> bool:
        return time.monotonic() < self._swallow_until

    def _accept(self) -> None:
        while not self._closed:
            try:
                near = self._listener.accept()[0]
            except TimeoutError:
                continue
            far = None
            if not self._swallowing:
                try:
                    far = socket.create_connection(self._target, timeout=5)
                except OSError:  # the sink is down
                    near.close()
                    continue
                far.settimeout(_TICK_S)
            near.settimeout(_TICK_S)
            pair = _Pair(near, far)
            ends = [(near, far, UP)] if far is None else [(near, far, UP), (far, near, DOWN)]
            pair.pumps = len(ends)
            with self._changed:
                self._pairs.add(pair)
            for source, target, direction in ends:
                self._spawn(self._pump, pair, source, target, direction)

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket | None, direction: str) -> None:
        swallowed = target is None
        with suppress(OSError):  # the other side has reset the connection
            while not (pair.ending or self._closed):
                if swallowed and not self._swallowing:
                    pair.reset = True
                    break
                try:
                    data = source.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    break
                data, last = self._treat(pair, direction, data)
                swallowed |= self._swallowing
                if target is not None and not swallowed:
                    self._send(pair, target, data)
                if last:
                    break
        with self._changed:
            pair.ending = True
            pair.pumps -= 1
            if not pair.pumps:
                self._pairs.discard(pair)
                pair.close()

    def _send(self, pair: _Pair, target: socket.socket, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not (pair.ending or self._closed):
            with suppress(TimeoutError):
                rest = rest[target.send(rest) :]

    def _treat(self, pair: _Pair, direction: str, data: bytes) -> tuple[bytes, bool]:
        now = time.monotonic()
        lag = self._lag_s * self._rng.random() if now < self._lag_until else 0.0
        with self._changed:
            while not (pair.ending or self._closed):
                left = max(now + lag, self._held[direction]) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        spoiler = self._spoilers.get(direction)
        spoiled = spoiler(data) if spoiler is not None else None
        if spoiled is None:
            return data, False
        del self._spoilers[direction]
        return spoiled
