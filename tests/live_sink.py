"""A real sink in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.sink_delivery import DeliveryConfig
from sink.daemon import Sink, SinkConfig
from sink.disk import Disk

DELIVERY = DeliveryConfig(credit_bytes=16 << 20, max_producers=8, heartbeat_s=0.5, lease_s=2.0, grace_s=0.1)

RunSink = Callable[..., Sink]


@contextmanager
def running(config: SinkConfig, disk: Disk | None = None) -> Iterator[Sink]:
    """Run a sink until the body ends; what it raised is raised here. disk: in place of the real one."""
    sink = Sink(config, disk)
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            sink.run()
        except BaseException as error:  # handed over below
            raised.append(error)

    thread = threading.Thread(target=serve, name="sink")
    thread.start()
    try:
        yield sink
    finally:
        sink.stop()
        thread.join(60)
        assert not thread.is_alive(), "the sink does not stop"
    if raised:
        raise raised[0]


@pytest.fixture
def run_sink(tmp_path: Path, no_leaks: None) -> Iterator[RunSink]:
    """Starts sinks on tmp_path/data; they are stopped when the test ends, and must leave nothing behind."""
    del no_leaks
    with ExitStack() as sinks:

        def start(data: Path = tmp_path / "data", **changes: Any) -> Sink:
            disk = changes.pop("disk", None)
            delivery = replace(DELIVERY, **changes.pop("delivery", {}))
            settings: dict[str, Any] = {
                "bind": "tcp://127.0.0.1:0", "http": "127.0.0.1:0", "shard_bytes": 1 << 20, "delivery": delivery
            }  # fmt: skip
            return sinks.enter_context(running(SinkConfig(data, **{**settings, **changes}), disk))

        yield start


class GatedDisk(Disk):
    """Syncs nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def sync(self, fd: int) -> None:
        """Wait for the gate; a test that forgets it fails here."""
        assert self.gate.wait(60), "the gate was never opened"
        super().sync(fd)
