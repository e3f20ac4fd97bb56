"""The publishing API against real sinks: nothing lost, nothing doubled, and everything closed at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import h5py
import msgspec
import numpy as np
import pytest
import zmq

from producers.episode import Episode
from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ConfigurationError, ProtocolError, RefusedError, SpecError
from protocol.messages import (
    Bye,
    Committed,
    Done,
    End,
    FromProducer,
    FromSink,
    Hello,
    Leased,
    RefusalCode,
    Refused,
    Want,
    Welcome,
    decode_from_producer,
    encode,
)
from protocol.producer_delivery import Event
from protocol.spec import Camera, Column, StreamSpec
from sink.daemon import Sink
from tests.fakes import CheckingReader, counted_episode, counting_spec, first_successes, publish
from tests.live_sink import GatedDisk, RunSink
from tests.processes import SinkProcess, wait_until

SPEC = counting_spec()
M = TypeVar("M", bound=FromProducer)


@pytest.fixture
def sink(run_sink: RunSink) -> Sink:
    return run_sink()


def stored(sink: Sink) -> list[int]:
    return CheckingReader(sink.config.data).indices


def test_the_ten_line_example(sink: Sink) -> None:
    spec = StreamSpec(
        "example/pendulum", 20.0, 10, (Column("action", "float32", (2,)), Column("observations/qpos", "float64", (2,))),
        (Camera("front", 16, 16),),
    )  # fmt: skip
    action, qpos, image = np.zeros(2), np.ones(2), np.zeros((16, 16, 3), np.uint8)
    with Publisher(sink.endpoint, spec, Goal(successes=5)) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                episode.step({"action": action, "observations/qpos": qpos}, {"front": image})
                episode.finish(success=True)
    assert publisher.committed == 5


@pytest.mark.parametrize("producers", [1, 3])
def test_the_goal_is_met_exactly(sink: Sink, producers: int) -> None:
    wanted = first_successes(SPEC, 20)

    def produce() -> None:
        with Publisher(sink.endpoint, SPEC, Goal(successes=20)) as publisher:
            for index in publisher.leases():
                publish(publisher, index)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    reader = CheckingReader(sink.config.data)
    assert reader.successes == wanted
    assert reader.indices == list(range(wanted[-1] + 1))


def test_a_range_of_indices_is_done_once(sink: Sink) -> None:
    for _ in range(2):  # the second run finds nothing to do
        with Publisher(sink.endpoint, SPEC, Goal(start=5, end=17)) as publisher:
            for index in publisher.leases():
                publish(publisher, index)
    assert stored(sink) == list(range(5, 17))
    assert publisher.committed == 0


class SimulatorError(Exception):
    """The simulator broke."""


def break_down(publisher: Publisher, index: int) -> None:
    with publisher.episode(index) as episode:
        made = counted_episode(SPEC, index)
        episode.step(
            {name: values[0] for name, values in made.columns.items()},
            {name: shown[0] for name, shown in made.images.items()},
        )
        raise SimulatorError


def test_an_exception_gives_the_index_back(sink: Sink) -> None:
    goal = Goal(end=6)
    broken = 0
    with Publisher(sink.endpoint, SPEC, goal) as publisher:
        for index in publisher.leases():
            if index == 2 and not broken:
                broken += 1
                with pytest.raises(SimulatorError):
                    break_down(publisher, index)
            else:
                publish(publisher, index)
    assert stored(sink) == list(range(6))


def test_an_exception_outside_ends_the_session_and_gives_everything_back(sink: Sink) -> None:
    with pytest.raises(SimulatorError):  # noqa: PT012, SIM117 -- the whole block is tested
        with Publisher(sink.endpoint, SPEC, Goal(end=3)) as publisher:
            for index in publisher.leases():
                break_down(publisher, index)
    with Publisher(sink.endpoint, SPEC, Goal(end=3)) as publisher:
        for index in publisher.leases():
            publish(publisher, index)
    assert stored(sink) == [0, 1, 2]


def test_a_failure_is_recorded_and_counts_as_done(sink: Sink) -> None:
    void = 4
    assert counted_episode(SPEC, void).outcome == 3
    with Publisher(sink.endpoint, SPEC, Goal(start=void, end=void + 1)) as publisher:
        assert [publish(publisher, index) for index in publisher.leases()] == [None]
    assert CheckingReader(sink.config.data).stored[void].outcome == 3


def test_a_failure_after_frames_were_sent_leaves_none_of_them(sink: Sink) -> None:
    """Every step is large enough to be sent at once; fail() then makes the sink forget them."""
    spec = msgspec.structs.replace(SPEC, name="tests/large", cameras=(Camera("camera0", 400, 400),))
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    columns = {name: values[0] for name, values in counted_episode(SPEC, 0).columns.items()}
    with Publisher(sink.endpoint, spec, Goal(end=1)) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                for _ in range(3):
                    episode.step(columns, {"camera0": noise})
                episode.fail("it fell over", {"how": "badly"})
    assert publisher.committed == 1
    with h5py.File(sink.config.data / "tests/large/000000.h5") as file:
        row = file["episodes"][0]
        assert (row["outcome"], row["steps"], row["frames_bytes"]) == (3, 0, 0)
        start = int(row["attributes_offset"])
        attributes = msgspec.json.decode(bytes(file["blob"][start : start + int(row["attributes_size"])]))
        assert attributes == {"success": False, "steps": 3, "why": "it fell over", "how": "badly", "seed": 0}


def test_an_index_lost_to_another_producer_is_not_doubled(sink: Sink) -> None:
    """A zombie: the first producer's network thread is held for longer than the lease."""
    goal = Goal(end=3)
    with Publisher(sink.endpoint, SPEC, goal) as zombie:
        index = next(zombie.leases())
        made = counted_episode(SPEC, index)
        with zombie.episode(index) as episode:
            episode.step(
                {name: values[0] for name, values in made.columns.items()},
                {name: shown[0] for name, shown in made.images.items()},
            )
            with zombie._changed:
                wait_until(lambda: not sink.delivery.sessions, "the lease runs out")
                with Publisher(sink.endpoint, SPEC, goal) as other:
                    for taken in other.leases():
                        publish(other, taken)
            wait_until(lambda: episode.lost, "the producer learns that it lost the index")
            episode.finish(False, {"wrong": True})
        assert list(zombie.leases()) == []
        assert zombie.committed == 0
    assert stored(sink) == [0, 1, 2]


def test_an_index_that_another_producer_is_at_work_on_stays_with_that_one(sink: Sink) -> None:
    """The zombie is back before the other has ended the episode."""
    goal = Goal(end=1)
    made = counted_episode(SPEC, 0)

    def steps(episode: Episode, first: int, end: int) -> None:
        for step in range(first, end):
            episode.step(
                {name: values[step] for name, values in made.columns.items()},
                {name: frames[step] for name, frames in made.frames.items()},
            )

    with Publisher(sink.endpoint, SPEC, goal) as zombie, Publisher(sink.endpoint, SPEC, goal) as other:
        with zombie.episode(next(zombie.leases())) as lost:
            steps(lost, 0, made.steps)
            with zombie._changed:
                wait_until(lambda: len(sink.delivery.sessions) == 1, "the zombie's lease runs out")
                taken = next(other.leases())
                with other.episode(taken) as kept:
                    steps(kept, 0, 1)
                    zombie._changed.release()
                    try:
                        wait_until(lambda: lost.lost, "the zombie learns that it lost the index")
                    finally:
                        zombie._changed.acquire()
                    assert not kept.lost
                    steps(kept, 1, made.steps)
                    kept.finish(True, {"counted": "#0"}, made.seed, made.documents)
            lost.finish(False, {"wrong": True})
        assert list(zombie.leases()) == []
        assert list(other.leases()) == []
        assert (zombie.committed, other.committed) == (0, 1)
    assert stored(sink) == [0]


def test_a_producer_that_was_away_keeps_what_nobody_took(sink: Sink) -> None:
    with Publisher(sink.endpoint, SPEC, Goal(end=1)) as publisher:
        index = next(publisher.leases())
        with publisher._changed:
            wait_until(lambda: not sink.delivery.sessions, "the lease runs out")
        publish(publisher, index)
        publisher.flush()
        assert publisher.committed == 1
    assert stored(sink) == [0]


def test_a_lease_waits_while_too_much_is_unacknowledged(run_sink: RunSink) -> None:
    disk = GatedDisk()
    sink = run_sink(disk=disk)
    config = PublisherConfig(max_ahead_episodes=2)

    class WaitedEnoughError(Exception):
        pass

    checks = 0

    def give_up() -> None:
        nonlocal checks
        checks += 1
        if checks > 2:
            raise WaitedEnoughError

    with Publisher(sink.endpoint, SPEC, Goal(end=6), config) as publisher:
        leases = publisher.leases()
        publish(publisher, next(leases))
        publisher.flush()
        disk.gate.clear()
        for _ in range(2):
            publish(publisher, next(leases))
        try:
            with pytest.raises(WaitedEnoughError):
                next(publisher.leases(give_up))
            assert publisher.committed == 1
            assert publisher.waited_s > 0.5
        finally:
            disk.gate.set()
        for index in publisher.leases():
            publish(publisher, index)
    assert stored(sink) == list(range(6))


def test_flush_waits_until_all_is_durable(run_sink: RunSink) -> None:
    disk = GatedDisk()
    sink = run_sink(disk=disk)
    flushed = threading.Event()
    with Publisher(sink.endpoint, SPEC, Goal(end=10)) as publisher:
        index = next(publisher.leases())
        disk.gate.clear()
        publish(publisher, index)
        wait_until(lambda: sink.delivery.committing == 1, "the episode has arrived")

        def flush() -> None:
            publisher.flush()
            flushed.set()

        thread = threading.Thread(target=flush)
        thread.start()
        assert not flushed.wait(0.3)
        assert publisher.committed == 0
        disk.gate.set()
        assert flushed.wait(30)
        thread.join()
        assert publisher.committed == 1


def test_a_sink_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    with SinkProcess(tmp_path) as process:
        endpoint = process.ready().endpoint
        process.terminate()
    with Publisher(endpoint, SPEC, Goal(end=3)) as publisher, SinkProcess(tmp_path, bind=endpoint) as process:
        for index in publisher.leases():
            publish(publisher, index)
        assert process.terminate() == 0
    assert CheckingReader(tmp_path).indices == [0, 1, 2]


def test_closing_needs_no_sink(no_leaks: None) -> None:
    del no_leaks
    publisher = Publisher("tcp://127.0.0.1:9", SPEC, Goal(end=3))
    publisher.close()
    publisher.close()


def test_closing_without_flush_leaves_the_rest_to_others(run_sink: RunSink) -> None:
    disk = GatedDisk()
    sink = run_sink(disk=disk)
    publisher = Publisher(sink.endpoint, SPEC, Goal(end=2))
    index = next(publisher.leases())
    disk.gate.clear()
    publish(publisher, index)
    publisher.close(flush=False)
    disk.gate.set()
    with Publisher(sink.endpoint, SPEC, Goal(end=2)) as other:
        for taken in other.leases():
            publish(other, taken)
    assert stored(sink) == [0, 1]


def test_a_killed_sink_loses_nothing_and_doubles_nothing(tmp_path: Path, no_leaks: None) -> None:
    """kill -9 three times in the middle; the publisher goes on by itself."""
    del no_leaks
    acked: list[int] = []

    def note(event: Event) -> None:
        if event.kind == "committed" and event.index is not None:
            acked.append(event.index)

    process = SinkProcess(tmp_path).ready()
    endpoint = process.endpoint
    try:
        kills = 0
        with Publisher(endpoint, SPEC, Goal(end=60), on_event=note) as publisher:
            for index in publisher.leases():
                publish(publisher, index)
                if index in (12, 25, 40):
                    process.kill()
                    kills += 1
                    reader = CheckingReader(tmp_path)
                    assert set(acked) <= set(reader.indices), "acknowledged and not on disk"
                    process = SinkProcess(tmp_path, bind=endpoint)
        assert kills == 3
    finally:
        process.kill()
    assert sorted(acked) == list(range(60))
    assert len(acked) == len(set(acked))
    assert CheckingReader(tmp_path).indices == list(range(60))


def test_a_sink_that_drains_is_waited_for(tmp_path: Path) -> None:
    process = SinkProcess(tmp_path).ready()
    endpoint = process.endpoint
    heard: list[str] = []
    try:
        with Publisher(endpoint, SPEC, Goal(end=20), on_event=lambda event: heard.append(event.kind)) as publisher:
            for index in publisher.leases():
                publish(publisher, index)
                if index == 10:
                    assert process.terminate() == 0
                    process = SinkProcess(tmp_path, bind=endpoint)
    finally:
        process.kill()
    assert "drain" in heard
    assert CheckingReader(tmp_path).indices == list(range(20))


def test_a_refused_producer_hears_it_in_its_own_thread(sink: Sink) -> None:
    with Publisher(sink.endpoint, SPEC, Goal(end=1)) as publisher:
        for index in publisher.leases():
            publish(publisher, index)
    other = msgspec.structs.replace(SPEC, rate_hz=50.0)
    refused = Publisher(sink.endpoint, other, Goal(end=1))
    with pytest.raises(RefusedError, match=r"rate_hz: expected 20\.0, found 50\.0") as raised:
        next(refused.leases())
    assert raised.value.code == "wrong_spec"
    with pytest.raises(RefusedError):
        refused.flush()
    refused.close()


def test_a_refused_episode_is_raised_too(run_sink: RunSink) -> None:
    sink = run_sink(shard_bytes=4096)
    publisher = Publisher(sink.endpoint, SPEC, Goal(end=1))
    big = counted_episode(SPEC, 0)
    with pytest.raises(RefusedError, match=r"does not fit a shard of .*--shard-mib"):  # noqa: PT012 -- at any call
        with publisher.episode(next(publisher.leases())) as episode:
            for _ in range(20):
                episode.step(
                    {name: values[0] for name, values in big.columns.items()},
                    {name: frames[0] for name, frames in big.frames.items()},
                )
            episode.finish(True)
        publisher.close()
    publisher.close()


class ScriptedSink:
    """A ROUTER that says what a test wants, to one producer."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.ROUTER_HANDOVER, 1)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.peer, self.session, self.seq = b"", 0, 0

    def __enter__(self) -> ScriptedSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def hear(self, kind: type[M]) -> M:
        """The next message of a kind; a Hello is answered."""
        while self._socket.poll(20_000):
            self.peer, header, *_ = self._socket.recv_multipart()
            message = decode_from_producer(header)
            if isinstance(message, Hello):
                self.session, self.seq = message.session, 0
                welcome = Welcome(session=0, epoch=1, credit=1 << 20, heartbeat_s=9.0, lease_s=30.0)
                self.say(msgspec.structs.replace(welcome, leased=message.holding))
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} came")

    def say(self, message: FromSink) -> None:
        stamped = msgspec.structs.replace(message, session=self.session, seq=self.seq)
        self.seq += 1
        self.say_bytes(encode(stamped))

    def say_bytes(self, data: bytes) -> None:
        self._socket.send_multipart([self.peer, data])


@pytest.fixture
def scripted(no_leaks: None) -> Iterator[ScriptedSink]:
    del no_leaks
    with ScriptedSink() as made:
        yield made


def produce_in_background(endpoint: str, errors: list[RefusedError]) -> threading.Thread:
    def produce() -> None:
        try:
            with Publisher(endpoint, SPEC, Goal(end=2)) as publisher:
                for index in publisher.leases():
                    publish(publisher, index)
        except RefusedError as error:
            errors.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    return thread


@pytest.mark.parametrize(("code", "times"), [("not_leased", 3), ("bad_checksum", 1), ("bad_checksum", 2)])
def test_an_episode_that_is_gone_or_came_damaged_once_stops_nobody(
    scripted: ScriptedSink, code: RefusalCode, times: int
) -> None:
    errors: list[RefusedError] = []
    thread = produce_in_background(scripted.endpoint, errors)
    scripted.hear(Want)  # for the others, it may come before the End
    for _ in range(times):
        scripted.say(Leased(session=0, indices=(1,)))
        assert scripted.hear(End).index == 1
        scripted.say(Refused(session=0, code=code, why="on purpose", index=1))
    if (code, times) != ("bad_checksum", 2):
        scripted.say(Leased(session=0, indices=(1,)))
        assert scripted.hear(End).index == 1
        scripted.say(Committed(session=0, index=1))
        scripted.say(Done(session=0))
    scripted.hear(Bye)
    thread.join(30)
    assert [error.code for error in errors] == (["bad_checksum"] if times == 2 else [])


@pytest.mark.parametrize("times", [1, 4])
def test_a_garbled_message_costs_a_session_and_many_stop_the_producer(scripted: ScriptedSink, times: int) -> None:
    with Publisher(scripted.endpoint, SPEC, Goal(end=2)) as publisher:
        leases = publisher.leases()
        for turn in range(times):
            scripted.hear(Hello)
            assert publisher.sessions >= turn + 1
            scripted.say_bytes(b"\xc1 this is no message")
        if times == 1:
            scripted.hear(Hello)
            scripted.say(Done(session=0))
            assert list(leases) == []
        else:
            with pytest.raises(ProtocolError):
                list(leases)


@pytest.mark.parametrize("endpoint", ["nonsense", "127.0.0.1:5555", "tcp://", "tcp://127.0.0.1", "smoke://signals"])
def test_an_endpoint_that_is_none_is_named(endpoint: str, no_leaks: None) -> None:
    del no_leaks
    with pytest.raises(ConfigurationError, match=re.escape(endpoint)):
        Publisher(endpoint, SPEC, Goal(), PublisherConfig(wait_s=0))


def test_a_spec_that_no_dataset_could_hold_is_refused_here(no_leaks: None) -> None:
    del no_leaks
    with pytest.raises(SpecError, match="max_steps 0"):
        Publisher("tcp://127.0.0.1:9", msgspec.structs.replace(SPEC, max_steps=0), Goal())


def test_an_error_of_the_callback_reaches_the_user(sink: Sink) -> None:
    def fail(event: Event) -> None:
        raise SimulatorError(event.kind)

    publisher = Publisher(sink.endpoint, SPEC, Goal(), on_event=fail)
    with pytest.raises(SimulatorError, match="welcome"):
        next(publisher.leases())
    publisher.close()


@pytest.fixture
def many(sink: Sink) -> Iterator[list[Publisher]]:
    publishers = [Publisher(sink.endpoint, SPEC, Goal(end=30)) for _ in range(6)]
    yield publishers
    for publisher in publishers:
        publisher.close()


def test_several_publishers_in_one_process_share_the_work(sink: Sink, many: list[Publisher]) -> None:
    leases = [publisher.leases() for publisher in many]
    for turn in range(30):
        publish(many[turn % 6], next(leases[turn % 6]))
    for publisher in many:
        publisher.flush()
    assert sum(publisher.committed for publisher in many) == 30
    assert stored(sink) == list(range(30))
    names = {found.producer for found in CheckingReader(sink.config.data).stored.values()}
    assert len(names) == 1  # host:pid, and nothing depends on it
