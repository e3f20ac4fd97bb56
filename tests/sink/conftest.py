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

DELIVERY = DeliveryConfig(credit_bytes=16 << 20, max_producers=8, heartbeat_s=0.5, lease_s=2.0, grace_s=0.1)

RunSink = Callable[..., Sink]


@contextmanager
def running(config: SinkConfig) -> Iterator[Sink]:
    """Run a sink until the body ends; what it raised is raised here."""
    sink = Sink(config)
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
            delivery = replace(DELIVERY, **changes.pop("delivery", {}))
            settings: dict[str, Any] = {
                "bind": "tcp://127.0.0.1:0", "http": "127.0.0.1:0", "shard_bytes": 1 << 20, "delivery": delivery
            }  # fmt: skip
            return sinks.enter_context(running(SinkConfig(data, **{**settings, **changes})))

        yield start
