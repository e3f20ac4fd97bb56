"""The sink's memory is bounded by its credit, however fast producers are and however slow the disk is."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
import pytest

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.jpeg import encode
from protocol.spec import Camera, Column
from tests.fakes import counting_spec
from tests.processes import Process, wait_until

MIB = 1 << 20
CREDIT_MIB = 8
# Beside the payload: libzmq's and the interpreter's own buffers, HTTP threads, pages that malloc keeps.
SLACK = 16 * MIB
PUSHED = 96 * MIB


class SlowSink(Process):
    """A sink whose disk waits for a file."""

    def __init__(self, root: Path) -> None:
        self.gate = root / "gate"
        self.gate.touch()
        super().__init__(
            "-m", "sink.bench.stalled", self.gate, "--data", root / "data", "--bind", "tcp://127.0.0.1:0",
            "--http", "127.0.0.1:0", "--memory-mib", str(CREDIT_MIB), "--max-producers", "2", "--shard-mib", "256",
        )  # fmt: skip
        match = self.says(r"READY: data .*, producers at (\S+), http (\S+)")
        self.endpoint, self.http = match[1], match[2]

    def in_flight(self) -> int:
        with urllib.request.urlopen(f"http://{self.http}/status", timeout=10) as answer:
            found: int = json.loads(answer.read()).get("in_flight_bytes", 0)
        return found


@pytest.mark.timeout(120)
def test_a_fast_producer_and_a_slow_disk_fill_no_memory(tmp_path: Path) -> None:
    columns, cameras = (Column("action", "float32", (3,)),), (Camera("front", 400, 400),)
    spec = msgspec.structs.replace(counting_spec(), max_steps=400, columns=columns, cameras=cameras)
    frame = encode(np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8))
    steps = PUSHED // len(frame) // 4
    config = PublisherConfig(max_ahead_bytes=2 * PUSHED, max_ahead_episodes=100)
    with SlowSink(tmp_path) as sink, Publisher(sink.endpoint, spec, Goal(end=4), config) as publisher:
        leases = publisher.leases()
        first = next(leases)
        before = sink.memory()
        sink.gate.unlink()
        highest = [before]
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.01):
                highest.append(sink.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for index in (first, *(next(leases) for _ in range(3))):
                with publisher.episode(index) as episode:
                    for _ in range(steps):
                        episode.step({"action": np.zeros(3)}, {"front": frame})
                    episode.finish(True)
            window = CREDIT_MIB * MIB // 2
            wait_until(lambda: sink.in_flight() > window - 2 * MIB, "the window is used up")
            assert publisher.committed == 0
            assert publisher._machine.unacknowledged_bytes > 0.9 * PUSHED
            sink.gate.touch()
            publisher.flush()
        finally:
            sink.gate.touch()
            ended.set()
            watcher.join()
        assert publisher.committed == 4
        assert max(highest) - before < CREDIT_MIB * MIB + SLACK, f"{(max(highest) - before) / MIB:.1f} MiB more"
        assert CREDIT_MIB * MIB + SLACK < PUSHED / 3  # or this test shows nothing
