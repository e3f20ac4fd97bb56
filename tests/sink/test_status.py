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


def test_restarts_goals_and_credit_are_told(tmp_path: Path) -> None:
    machine = SinkDelivery(DeliveryConfig(credit_bytes=8 << 20, max_producers=4), 1, 0.0)
    machine.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
    board = StatusBoard(tmp_path, 1)
    board.stream(SPEC.name)
    for number, (pid, goal) in enumerate([(7, Goal(10, 30)), (7, Goal(20, 50)), (8, Goal(20, 50))]):
        hello = Hello(session=number, protocol=PROTOCOL_VERSION, producer=Producer("p", "h", pid), spec=SPEC, goal=goal)
        machine.receive(0.0, b"a" if number else b"b", hello)
        board.refresh(1000.0 * number, machine)
    for _ in range(3):
        board.draining = not board.draining  # so that a snapshot is made
        board.refresh(2000.0, machine)
    assert [row["restarts"] for row in board.latest["producers"]] == [1, 1], "pid 7, then 8, under one name"
    first = board.latest["producers"][0]
    assert first["window_bytes"] == first["credit_bytes"] > 0
    stream = board.latest["streams"][SPEC.name]
    assert (stream["goal_successes"], stream["goal_episodes"]) == (None, 40)
