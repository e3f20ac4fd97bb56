"""A producer that falls silent gives its indices back, however it does that; one that comes back doubles nothing."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.messages import Begin, Welcome
from protocol.producer_delivery import Event
from tests.fakes import CheckingReader, counted_episode, counting_spec, publish
from tests.processes import Process, SinkProcess, wait_until
from tests.raw_producer import RawProducer
from tests.system.bad_link import BadLink
from tests.system.cluster import ClusterSink, free_port

SPEC = counting_spec()
LEASE_S = 2.0  # of SinkProcess


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SinkProcess]:
    with SinkProcess(tmp_path / "data") as made:
        yield made.ready()


def status(sink: SinkProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{sink.http}/status", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def stored(tmp_path: Path) -> list[int]:
    return CheckingReader(tmp_path / "data").indices


def test_a_producer_without_a_network_gives_its_indices_back_and_goes_on_when_it_returns(
    tmp_path: Path, sink: SinkProcess
) -> None:
    heard: list[Event] = []
    with BadLink(int(sink.endpoint.rpartition(":")[2]), seed=1) as link:
        with Publisher(link.endpoint, SPEC, Goal(end=3), on_event=heard.append) as cut_off:
            mine = cut_off.leases()
            index = next(mine)
            assert index == 0
            with cut_off.episode(index) as lost:
                columns, images = first_step(index)
                lost.step(columns, images)
                link.swallow(600)
                gone = time.monotonic()
                with Publisher(sink.endpoint, SPEC, Goal(end=1)) as other:
                    publish(other, next(other.leases()))
                    waited = time.monotonic() - gone
                assert waited > LEASE_S - 1.0, "its last ping came at most a heartbeat before"
                assert stored(tmp_path) == [0]
                link.restore()
                wait_until(lambda: lost.lost, "it is told that the index is lost")
                lost.step(columns, images)
                lost.finish(True)
            for index in mine:
                publish(cut_off, index)
        assert [(event.kind, event.index) for event in heard if event.kind in ("lost", "committed")] == [
            ("lost", 0), ("committed", 1), ("committed", 2)
        ]  # fmt: skip
    assert stored(tmp_path) == [0, 1, 2]


def first_step(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    made = counted_episode(SPEC, index)
    return (
        {name: values[0] for name, values in made.columns.items()},
        {name: frames[0] for name, frames in made.frames.items()},
    )


def test_a_producer_that_hangs_with_its_connection_open_gives_its_indices_back(
    tmp_path: Path, sink: SinkProcess
) -> None:
    with RawProducer(sink.endpoint, name="hangs") as hangs:
        assert hangs.lease(Goal(end=1)) == 0
        with Publisher(sink.endpoint, SPEC, Goal(end=1)) as other:
            publish(other, next(other.leases()))
        hangs.send(Begin(session=0, index=0))
        assert hangs.refusal().code == "unknown_session"
        hangs.session, hangs.seq = hangs.session + 1, 0
        hangs.hello(Goal(end=1), holding=(0,))
        assert hangs.hear(Welcome).committed == (0,)
    assert stored(tmp_path) == [0]


def test_a_simulation_that_hangs_gives_its_index_back(tmp_path: Path, sink: SinkProcess) -> None:
    """The publisher's own thread is alive, and would send its pings for ever."""
    heard: list[Event] = []
    config = PublisherConfig(hang_s=0.5)
    with Publisher(sink.endpoint, SPEC, Goal(end=2), config, on_event=heard.append) as hangs:
        mine = hangs.leases()
        with hangs.episode(next(mine)) as lost:
            lost.step(*first_step(0))
            with Publisher(sink.endpoint, SPEC, Goal(end=1)) as other:
                publish(other, next(other.leases()))
            lost.step(*first_step(0))
            wait_until(lambda: lost.lost, "it is told that the index is lost")
            lost.finish(True)
        for index in mine:
            publish(hangs, index)
    ends = [(event.kind, event.index) for event in heard if event.kind in ("lost", "committed")]
    assert ends == [("lost", 0), ("committed", 1)]
    assert stored(tmp_path) == [0, 1]


def test_a_lease_does_not_hang_on_the_wall_clock(tmp_path: Path) -> None:
    """The sink's clock jumps by a day, forwards and back."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    with ClusterSink(tmp_path / "data", free_port(), clock, quota_mib=100) as sink:
        endpoint = sink.says(r"READY: data .*, producers at (\S+),")[1]
        with Publisher(endpoint, SPEC, Goal(end=2)) as publisher:
            for index, offset in zip(publisher.leases(), (86_400, -86_400), strict=False):
                before = uptime(sink)
                clock.write_text(str(offset))
                # The sink looks for silent sessions before it tells its status.
                wait_until(lambda before=before: 1 < uptime(sink) - before < 60, "the sink has looked twice")
                publish(publisher, index)
        assert publisher.sessions == 1
        assert publisher.committed == 2
    assert stored(tmp_path) == [0, 1]


def uptime(sink: ClusterSink) -> float:
    return float(json.loads(sink.get("/status")[1])["uptime_s"])


class Zombie:
    """A counting producer that is stopped in the middle of an episode."""

    def __init__(self, sink: SinkProcess, root: Path, step_s: float) -> None:
        self.log, stop = root / "zombie.log", root / "stop"
        arguments = ("tests.system.counting_producer", sink.endpoint, "3", self.log, str(step_s), stop)
        self.process = Process("-m", *arguments)
        self.sink = sink

    def stop(self) -> None:
        self.process.child.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.child.send_signal(signal.SIGCONT)

    def said(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(("committed", "lost", "done"))]


def finish_the_rest(sink: SinkProcess) -> list[int]:
    made = []
    with Publisher(sink.endpoint, SPEC, Goal(successes=3)) as other:
        for index in other.leases():
            publish(other, index)
            made.append(index)
    return made


def test_a_zombie_in_the_middle_of_an_episode_doubles_nothing(tmp_path: Path, sink: SinkProcess) -> None:
    zombie = Zombie(sink, tmp_path, step_s=0.3)
    with zombie.process:
        wait_until(lambda: [p["episodes_under_way"] for p in status(sink)["producers"]] == [[0]], "0 is under way")
        zombie.stop()
        made = finish_the_rest(sink)
        assert sorted(made) == [0, 1, 2]
        zombie.wake()
        assert zombie.process.wait() == 0, zombie.process.output
    assert zombie.said() == ["lost 0", "done 1"]
    assert stored(tmp_path) == [0, 1, 2]


def test_a_zombie_between_its_end_and_the_commit_doubles_nothing(tmp_path: Path) -> None:
    """The episode had arrived whole: it is committed though its producer is silent for longer than its lease."""
    gate = tmp_path / "gate"
    flags = ("--data", tmp_path / "data", "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--shard-mib", "1")
    gate.touch()
    sink = SinkProcess.__new__(SinkProcess)
    Process.__init__(sink, "-m", "sink.bench.stalled", gate, *flags, "--lease-s", "2")
    with sink.ready():
        gate.unlink()
        zombie = Zombie(sink, tmp_path, step_s=0.0)
        with zombie.process:
            # Begun and ended, leased and now pending: the disk takes nothing.
            wait_until(lambda: pending(sink), "an episode is pending")
            zombie.stop()
            wait_until(lambda: not status(sink)["producers"], "the zombie's lease is over")
            gate.touch()
            finish_the_rest(sink)
            zombie.wake()
            assert zombie.process.wait() == 0, zombie.process.output
        assert "committed 0" in zombie.said()
        assert zombie.said()[-1] == "done 1"
    assert stored(tmp_path) == [0, 1, 2]


def pending(sink: SinkProcess) -> bool:
    """Whether an End has come; it cannot be committed."""
    with urllib.request.urlopen(f"http://{sink.http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return any(line.startswith('headrace_sink_messages_total{type="End"}') for line in lines)
