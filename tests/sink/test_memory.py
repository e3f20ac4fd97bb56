"""The sink's memory stays below --memory-mib, however fast producers are and however slow the disk is."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
import pytest

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ConfigurationError
from protocol.jpeg import encode
from protocol.spec import MIN_WINDOW_BYTES, Camera, Column
from sink.resources import (
    CONNECTION_BYTES,
    PAYLOAD_SHARE,
    PROGRAM_BYTES,
    plan_memory,
)
from tests.fakes import counting_spec
from tests.processes import Process, wait_until

MIB = 1 << 20
MEMORY_MIB = 112
PUSHED = 96 * MIB


class SlowSink(Process):
    """A sink whose disk waits for a file."""

    def __init__(self, root: Path) -> None:
        self.gate = root / "gate"
        self.gate.touch()
        super().__init__(
            "-m", "sink.bench.stalled", self.gate, "--data", root / "data", "--bind", "tcp://127.0.0.1:0",
            "--http", "127.0.0.1:0", "--memory-mib", str(MEMORY_MIB), "--max-producers", "2", "--shard-mib", "256",
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
            window = plan_memory(MEMORY_MIB, 2, None).credit_bytes // 2
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
        assert max(highest) < MEMORY_MIB * MIB, f"{max(highest) / MIB:.1f} MiB"
        assert before + PUSHED > MEMORY_MIB * MIB  # or this test shows nothing


def test_memory_is_divided_so_that_the_parts_make_the_whole() -> None:
    plan = plan_memory(1024, 100, None)
    assert plan.connections == 216
    reserve = PROGRAM_BYTES + plan.connections * CONNECTION_BYTES
    assert plan.credit_bytes / PAYLOAD_SHARE + reserve == pytest.approx(1024 * MIB)


def test_the_error_names_a_size_that_is_enough() -> None:
    with pytest.raises(ConfigurationError, match="--memory-mib 256 is too little") as caught:
        plan_memory(256, 1000, None)
    needed = int(re.search(r"at least (\d+)", str(caught.value))[1])  # type: ignore[index]
    assert plan_memory(needed, 1000, None).credit_bytes >= 1000 * MIN_WINDOW_BYTES
    with pytest.raises(ConfigurationError):
        plan_memory(needed - 1, 1000, None)
