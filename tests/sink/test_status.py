"""The snapshot for people must not take the time of the producers."""

from __future__ import annotations

from pathlib import Path

from protocol.interval_set import IntervalSet
from protocol.messages import PROTOCOL_VERSION, Goal, Hello, Producer
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import Column, StreamSpec
from sink.status import StatusBoard

SPEC = StreamSpec("tests/status", 20.0, 4, (Column("action", "float32", (2,)),))
PRODUCERS = 2000


def crowd() -> SinkDelivery:
    machine = SinkDelivery(DeliveryConfig(credit_bytes=PRODUCERS << 20, max_producers=PRODUCERS), 1, 0.0)
    machine.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
    for number in range(PRODUCERS):
        goal = Goal(successes=number % 7 or None)
        hello = Hello(session=number, protocol=PROTOCOL_VERSION, producer=Producer("p"), spec=SPEC, goal=goal)
        machine.receive(0.0, number.to_bytes(2, "big"), hello)
    return machine


def test_a_large_snapshot_is_made_less_often_and_at_once_when_the_sink_drains(tmp_path: Path) -> None:
    machine, board = crowd(), StatusBoard(tmp_path, 1)
    board.stream(SPEC.name)
    board.refresh(10.0, machine)
    first = board.latest
    assert len(first["producers"]) == PRODUCERS
    assert first["streams"][SPEC.name]["goal_successes"] == 6
    board.refresh(10.001, machine)
    assert board.latest is first, "2000 rows in less than 20 us"
    board.draining = True
    board.refresh(10.002, machine)
    assert (first["ready"], board.latest["ready"]) == (True, False)
    machine.tick(1000.0)  # all have been silent
    board.refresh(1000.0, machine)
    assert board.latest["producers"] == []
