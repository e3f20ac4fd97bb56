"""What a client can make the sink's delivery machine keep is bounded, and the bound is a refusal or a wait."""

from __future__ import annotations

import msgspec
import pytest

from protocol.errors import SpecError
from protocol.interval_set import IntervalSet
from protocol.lease_book import MAX_AHEAD, MAX_FRAGMENTS, LeaseBook
from protocol.messages import (
    MAX_HOLDING,
    Abandon,
    Begin,
    Document,
    Frames,
    FromProducer,
    FromSink,
    Goal,
    Hello,
    Leased,
    Producer,
    Refused,
    Want,
    Welcome,
)
from protocol.orders import OpenStream, Order
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import Camera, Column, StreamSpec

SPEC = StreamSpec("sim/Task", 20.0, 400, (Column("state", "float32", (2,)),), (Camera("front", 64, 64),))
CONFIG = DeliveryConfig(credit_bytes=64 << 20, max_producers=16, max_streams=4, max_leases=1600)


class Stage:
    """A machine; each `say` is of the peer's session, in order."""

    def __init__(self, config: DeliveryConfig = CONFIG, opened: bool = True) -> None:
        self.sink = SinkDelivery(config, 7, 0.0)
        self.orders: list[Order] = []
        self.seqs: dict[bytes, int] = {}
        if opened:
            self.sink.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())

    def hello(
        self, peer: bytes, spec: StreamSpec = SPEC, goal: Goal | None = None, holding: tuple[int, ...] = ()
    ) -> None:
        number, me = int.from_bytes(peer, "big"), Producer("p")
        self.seqs[peer] = 1
        hello = Hello(session=number, protocol=1, producer=me, spec=spec, goal=goal or Goal(), holding=holding)
        self.orders += self.sink.receive(0.0, peer, hello)

    def say(self, peer: bytes, message: FromProducer, *sizes: int) -> None:
        seq = self.seqs[peer]
        self.seqs[peer] += 1
        stamped = msgspec.structs.replace(message, session=int.from_bytes(peer, "big"), seq=seq)
        self.orders += self.sink.receive(0.0, peer, stamped, sizes)

    def heard(self) -> list[FromSink]:
        return [message for _, message in self.sink.take_outbox()]

    def leased(self) -> list[int]:
        return [index for message in self.heard() if isinstance(message, Leased) for index in message.indices]

    def codes(self) -> list[str]:
        return [message.code for message in self.heard() if isinstance(message, Refused)]


def test_streams_are_as_many_as_the_sink_may_have() -> None:
    stage = Stage()
    for number in range(10):
        spec = msgspec.structs.replace(SPEC, name=f"made/up{number}")
        stage.hello(bytes([1, number]), spec)
    assert len([order for order in stage.orders if isinstance(order, OpenStream)]) == 3
    assert stage.codes() == ["unknown_stream"] * 7
    stage.hello(b"a")
    assert isinstance(stage.heard()[0], Welcome)


def test_a_stream_that_nobody_could_publish_is_not_made() -> None:
    """Its shard would reserve max_steps rows, however small the others are."""
    stage = Stage()
    columns = tuple(Column(f"c{number}", "uint8", (4,)) for number in range(64))
    stage.hello(b"a", StreamSpec("giant", 20.0, 1_000_000, columns))
    assert stage.codes() == ["too_many_producers"]
    assert stage.orders == []


def test_those_that_wait_for_a_stream_are_as_many_as_there_are_producers() -> None:
    stage = Stage(opened=False)
    for number in range(40):
        stage.hello(bytes([1, number]))
        stage.hello(bytes([1, number]))
    assert set(stage.codes()) == {"too_many_producers"}
    stage.hello(b"other", msgspec.structs.replace(SPEC, max_steps=5))
    assert stage.codes() == ["wrong_spec"]
    assert len([order for order in stage.orders if isinstance(order, OpenStream)]) == 1
    stage.sink.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
    assert [type(message) for message in stage.heard()] == [Welcome] * 16


def test_who_goes_to_another_stream_does_not_wait_for_the_first_any_more() -> None:
    stage, other = Stage(opened=False), msgspec.structs.replace(SPEC, name="sim/Other")
    for number in range(16):
        stage.hello(bytes([1, number]), holding=tuple(range(4000)))
    assert stage.codes() == []
    for number in range(16):
        stage.hello(bytes([1, number]), other, holding=tuple(range(4000)))
    assert stage.codes() == [], "what it replaces still counts"
    stage.sink.stream_opened(0.0, SPEC, IntervalSet(), IntervalSet())
    assert stage.heard() == []
    stage.sink.stream_opened(0.0, other, IntervalSet(), IntervalSet())
    assert [type(message) for message in stage.heard()] == [Welcome] * 16
    late = msgspec.structs.replace(SPEC, name="sim/Late")
    for number in range(17):
        stage.hello(bytes([2, number]), late)
    assert stage.codes() == ["too_many_producers"]


def test_those_that_wait_for_a_stream_do_not_name_indices_without_end() -> None:
    stage = Stage(opened=False)
    for number in range(16):
        stage.hello(bytes([1, number]), holding=tuple(range(MAX_HOLDING)))
    assert stage.codes() == []
    stage = Stage(DeliveryConfig(max_producers=64), opened=False)
    for number in range(20):
        stage.hello(bytes([1, number]), holding=tuple(range(MAX_HOLDING)))
    assert stage.codes() == ["too_many_producers"] * 4


def test_a_session_holds_its_share_of_leases_and_the_others_get_theirs() -> None:
    stage = Stage()
    stage.hello(b"greedy")
    for _ in range(10):
        stage.say(b"greedy", Want(session=0, count=4096))
    assert stage.leased() == list(range(100))
    stage.hello(b"modest")
    stage.say(b"modest", Want(session=0, count=2))
    assert stage.leased() == [100, 101]
    stage.say(b"greedy", Abandon(session=0, index=5))
    assert stage.leased() == [5]
    assert stage.sink.sessions[b"greedy"].wants <= MAX_HOLDING


def test_holding_gives_nothing_that_could_not_have_been_leased() -> None:
    stage = Stage()
    stage.hello(b"a", goal=Goal(start=10, end=20), holding=(9, 10, 19, 20))
    (welcome,) = stage.heard()
    assert isinstance(welcome, Welcome)
    assert (welcome.leased, welcome.lost) == ((10, 19), (9, 20))
    stage.hello(b"b", holding=(MAX_AHEAD, MAX_AHEAD + 1, 2**61))
    (welcome,) = stage.heard()
    assert isinstance(welcome, Welcome)
    assert (welcome.leased, welcome.lost) == ((MAX_AHEAD,), (MAX_AHEAD + 1, 2**61))
    stage.hello(b"c", holding=tuple(range(100, 300)))
    (welcome,) = stage.heard()
    assert isinstance(welcome, Welcome)
    assert (len(welcome.leased), len(welcome.lost)) == (100, 100)


def test_scattered_indices_stop_before_they_fill_the_memory() -> None:
    book = LeaseBook(IntervalSet(), IntervalSet())
    for number in range(MAX_FRAGMENTS):
        assert book.next_index(Goal(start=10 * number)) == 10 * number
        book._taken.add(10 * number)
    assert book.next_index(Goal(start=10 * MAX_FRAGMENTS)) is None
    assert book.claim(10 * MAX_FRAGMENTS, 1, b"p", Goal(start=10 * MAX_FRAGMENTS)) == "lost"
    assert book.next_index(Goal()) == 1  # a neighbour


def test_many_refused_indices_end_the_session() -> None:
    stage = Stage()
    stage.hello(b"a")
    for index in range(MAX_HOLDING + 1):
        stage.say(b"a", Begin(session=0, index=index))
    assert stage.codes() == ["not_leased"] * (MAX_HOLDING + 1) + ["unknown_session"]
    assert b"a" not in stage.sink.sessions


def test_beginning_again_for_ever_gives_the_store_no_orders() -> None:
    stage = Stage()
    stage.hello(b"a")
    stage.say(b"a", Want(session=0, count=1))
    for _ in range(1000):
        stage.say(b"a", Begin(session=0, index=0))
    assert stage.orders == []


def test_frames_of_episodes_that_do_not_end_are_bounded() -> None:
    stage = Stage()
    stage.hello(b"a")
    stage.say(b"a", Want(session=0, count=100))
    window = stage.sink.sessions[b"a"].window
    sent = 0
    for index in range(100):
        stage.say(b"a", Begin(session=0, index=index))
        stage.say(b"a", Frames(session=0, index=index, first=0, count=400, sizes=(1,) * 400), 400)
        sent += 400
        if codes := stage.codes():
            assert codes == ["bad_message"]
            break
        stage.sink.consumed(int.from_bytes(b"a", "big"), 400)
    assert window // 128 < sent <= window // 128 + 400


def test_payload_of_a_few_bytes_fills_no_memory_while_the_disk_stands_still() -> None:
    """Nothing is consumed here; sessions come again and again."""
    stage = Stage()
    taken = 0
    for number in range(200):
        peer = bytes([1, number])
        stage.hello(peer)
        while peer in stage.sink.sessions:
            stage.say(peer, Document(session=0, sha256="0" * 64), 1)
            taken += peer in stage.sink.sessions
    assert taken * 1024 <= CONFIG.credit_bytes // 8
    assert set(stage.codes()) == {"unknown_session", "too_many_producers"}


@pytest.mark.parametrize(
    "name", ["a/000001.h5", "a/000001.h5.preparing", "sink.lock", "dataset.json", "dataset.draft", "x.h5/y"]
)
def test_a_stream_is_not_called_like_a_file_of_the_dataset(name: str) -> None:
    with pytest.raises(SpecError, match="ends like a file of the dataset"):
        msgspec.structs.replace(SPEC, name=name).check()
