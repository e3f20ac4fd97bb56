"""A thousand producers on one sink: how soon an episode is acknowledged, and what a stalled disk costs in memory."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench.sink.children import Child, children
from deploy.processes import Program, ProgramError, start, start_sink, wait_ready

PRODUCERS = 1000
ACK_EPISODES = 400
RATE = 20.0
STALL_S = 10.0
MEMORY_MIB = 768
_STALL_EPISODES = 2 * PRODUCERS
_STALL_STEPS = 200  # frames of 2.5 kB: 0.5 MB an episode, more than a window


@dataclass(frozen=True)
class Stall:
    """peak_mb: most own memory of the sink. in_flight_mb: most payload it held. seconds: to take everything."""

    peak_mb: float
    in_flight_mb: float
    seconds: float


def ack_delays_ms(root: Path, frames: Path) -> list[float]:
    """End → Committed of each episode, at 20 episodes a second in total."""
    sink, endpoint, _ = start_sink(root / "crowd", root / "logs", _words())
    with ExitStack() as undo:
        undo.callback(sink.stop)
        started = undo.enter_context(children())
        words = ["--sink", endpoint, "--frames", str(frames), "--producers", str(PRODUCERS)]
        words += ["--episodes", str(ACK_EPISODES), "--rate", str(RATE)]
        started.append(Child("producers.bench.swarm", words, root / "swarm.log"))
        found = started[0].result()
    return [1e3 * (found["acked"][index] - found["ended"][index]) for index in found["acked"]]


def stall(root: Path, frames: Path) -> Stall:
    """All producers send as much as they may while the disk takes nothing for 10 s. Raises ProgramError on any loss."""
    gate, go = root / "gate", root / "go-stall"
    gate.touch()
    data = root / "stalled"
    words = ["--data", str(data), "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", *_words()]
    sink = start("stalled", [str(gate), *words], root / "logs", module="sink.bench.stalled")
    with ExitStack() as undo:
        undo.callback(sink.stop)
        endpoint, http = wait_ready(sink)
        undo.callback(gate.touch)
        started = undo.enter_context(children())
        words = ["--sink", endpoint, "--frames", str(frames), "--wait", str(go), "--rate", "0"]
        words += ["--producers", str(PRODUCERS), "--steps", str(_STALL_STEPS), "--episodes", str(_STALL_EPISODES)]
        started.append(Child("producers.bench.swarm", words, root / "swarm-stall.log"))
        started[0].wait_ready()
        watch = undo.enter_context(_Watch(sink, http))
        began = time.monotonic()
        gate.unlink()
        go.touch()
        threading.Event().wait(STALL_S)
        gate.touch()
        found = started[0].result()
        seconds = time.monotonic() - began
    if len(found["acked"]) != _STALL_EPISODES:
        raise ProgramError(f"{len(found['acked'])} episodes were acknowledged, {_STALL_EPISODES} were sent")
    return Stall(watch.peak_mb, watch.in_flight_mb, seconds)


def _words() -> Sequence[str]:
    return ["--max-producers", str(PRODUCERS), "--memory-mib", str(MEMORY_MIB)]


class _Watch(threading.Thread):
    """Looks at the sink's memory while the block runs."""

    def __init__(self, sink: Program, http: str) -> None:
        super().__init__(name="watch", daemon=True)
        self.peak_mb = self.in_flight_mb = 0.0
        self._sink, self._http = sink, http
        self._ended = threading.Event()

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            if not self._sink.running:
                return
            self.peak_mb = max(self.peak_mb, self._sink.anonymous_mb())
            self.in_flight_mb = max(self.in_flight_mb, self._status().get("in_flight_bytes", 0) / 1e6)

    def _status(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{self._http}/status", timeout=10) as answer:
                status: dict[str, Any] = json.loads(answer.read())
        except OSError:  # it starts, or it has just ended
            return {}
        return status
