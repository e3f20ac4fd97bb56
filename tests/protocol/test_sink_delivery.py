"""The rules of the sink's side, one by one, in the words of the messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from protocol.interval_set import IntervalSet
from protocol.messages import (
    MAX_TEXT,
    PROTOCOL_VERSION,
    Abandon,
    Begin,
    Bye,
    Committed,
    Credit,
    Document,
    Done,
    Drain,
    End,
    Frames,
    FromProducer,
    FromSink,
    Goal,
    Hello,
    Leased,
    Notice,
    Outcome,
    Ping,
    Pong,
    Producer,
    Refused,
    Want,
    Welcome,
)
from protocol.orders import Append, Finish, Forget, Keep, OpenStream, Order
from protocol.sink_delivery import DeliveryConfig, SinkDelivery
from protocol.spec import MAX_DOCUMENT_BYTES, MAX_FRAME_BYTES, Camera, Column, StreamSpec

SPEC = StreamSpec("sim/Task", 20.0, 4, (Column("state", "float32", (2,)),), (Camera("front", 64, 64),))
WINDOW = SPEC.min_window_bytes
SHA256 = "a" * 64
RANGE = Goal(end=100)
CONFIG = DeliveryConfig(credit_bytes=4 * WINDOW, max_producers=100, heartbeat_s=1.0, lease_s=10.0, grace_s=2.0)


class Stage:
    """A sink, a clock, and the messages and orders that come out of it."""

    def __init__(self, config: DeliveryConfig = CONFIG, committed: tuple[int, ...] = (), opened: bool = True) -> None:
        self.now = 100.0
        self.sink = SinkDelivery(config, epoch=7, now=self.now)
        self.orders: list[Order] = []
        self.outbox: list[tuple[bytes, FromSink]] = []
        self._sessions = 0
        if opened:
            self.open(committed)
            self.now += config.grace_s

    def open(self, committed: tuple[int, ...] = (), spec: StreamSpec = SPEC) -> None:
        self._take(self.sink.stream_opened(self.now, spec, IntervalSet(committed), IntervalSet()))

    def receive(self, peer: bytes, message: FromProducer, *sizes: int) -> None:
        self._take(self.sink.receive(self.now, peer, message, sizes))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self._take(self.sink.tick(self.now))

    def take(self, peer: bytes, kind: type[Any] | None = None) -> list[Any]:
        """What this peer was sent since the last call, or only the messages of one kind; the rest is forgotten."""
        self.outbox += self.sink.take_outbox()
        taken = [message for to, message in self.outbox if to == peer and kind in (None, type(message))]
        self.outbox = [(to, message) for to, message in self.outbox if to != peer]
        return taken

    def take_orders(self) -> list[Order]:
        taken, self.orders = self.orders, []
        return taken

    def _take(self, orders: list[Order]) -> None:
        self.orders += orders

    def new_session(self) -> int:
        self._sessions += 1
        return self._sessions


class Peer:
    """A producer that says what the test wants, with the right session and place."""

    def __init__(self, stage: Stage, name: str = "a", goal: Goal = RANGE, spec: StreamSpec = SPEC) -> None:
        self.stage, self.peer, self.goal, self.spec = stage, name.encode(), goal, spec
        self.session = self.seq = 0

    def hello(self, *holding: int, **changes: Any) -> Peer:
        self.session, self.seq = self.stage.new_session(), 1
        me = Producer(self.peer.decode())
        hello = Hello(
            session=self.session,
            protocol=PROTOCOL_VERSION,
            producer=me,
            spec=self.spec,
            goal=self.goal,
            holding=holding,
        )
        self.stage.receive(self.peer, msgspec.structs.replace(hello, **changes))
        return self

    def say(self, message: FromProducer, *sizes: int) -> None:
        """sizes: of the payload; of the JPEGs in it, if these are frames."""
        stamped = msgspec.structs.replace(message, session=self.session, seq=self.seq)
        if isinstance(message, Frames):
            stamped = msgspec.structs.replace(stamped, sizes=sizes)
            sizes = (sum(sizes),)
        self.seq += 1
        self.stage.receive(self.peer, stamped, *sizes)

    def want(self, count: int = 1) -> None:
        self.say(Want(session=0, count=count))

    def lease(self, count: int = 1) -> list[int]:
        """Want, and what is granted."""
        self.heard()
        self.want(count)
        return [index for message in self.heard(Leased) for index in message.indices]

    def heard(self, kind: type[Any] | None = None) -> list[Any]:
        return self.stage.take(self.peer, kind)

    def refusal(self) -> Refused:
        """The one refusal among what was heard."""
        (refused,) = self.heard(Refused)
        assert isinstance(refused, Refused)
        return refused


def begin(index: int) -> Begin:
    return Begin(session=0, index=index)


def frames(index: int, first: int = 0, count: int = 1) -> Frames:
    return Frames(session=0, index=index, first=first, count=count, sizes=())


def end(index: int, outcome: Outcome = Outcome.SUCCESS, steps: int = 1) -> End:
    return End(session=0, index=index, outcome=outcome, steps=steps, seed=0, began_ns=0, ended_ns=0, checksum=0)


def send_episode(peer: Peer, index: int) -> Finish:
    """A whole episode of one step; returns the order to commit it."""
    peer.say(begin(index))
    peer.say(frames(index), 100)
    peer.say(end(index), 2, 8)
    finish = peer.stage.take_orders()[-1]
    assert isinstance(finish, Finish)
    return finish


# --- sessions ----------------------------------------------------------------------------------------------------


def test_hello_is_answered_by_a_welcome_with_the_whole_window() -> None:
    peer = Peer(Stage()).hello()
    assert peer.heard() == [Welcome(session=1, seq=0, epoch=7, credit=WINDOW, heartbeat_s=1.0, lease_s=10.0)]


def test_an_equal_share_of_the_credit_if_that_is_more_than_the_stream_needs() -> None:
    stage = Stage(DeliveryConfig(credit_bytes=30 * WINDOW, max_producers=10))
    (welcome,) = Peer(stage).hello().heard(Welcome)
    assert welcome.credit == 3 * WINDOW


def test_the_first_hello_of_a_stream_opens_it_and_all_who_wait_are_welcomed() -> None:
    stage = Stage(opened=False)
    first, second = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert stage.take_orders() == [OpenStream(SPEC)]
    assert first.heard() == second.heard() == []
    stage.open()
    assert len(first.heard(Welcome)) == len(second.heard(Welcome)) == 1


def test_of_several_hellos_while_the_stream_opens_only_the_last_is_answered() -> None:
    stage = Stage(opened=False)
    peer = Peer(stage).hello().hello().hello()
    stage.open()
    assert [message.session for message in peer.heard(Welcome)] == [peer.session]
    assert len(stage.sink.sessions) == 1


def test_a_stream_that_cannot_be_created_is_refused() -> None:
    stage = Stage(opened=False)
    peer = Peer(stage).hello()
    stage.sink.stream_failed(SPEC.name, "no space left")
    assert (peer.refusal().code, stage.sink.sessions) == ("storage", {})


def test_another_protocol_version_is_refused() -> None:
    peer = Peer(Stage()).hello(protocol=PROTOCOL_VERSION + 1)
    refused = peer.refusal()
    assert refused.code == "protocol_version"
    assert f"the producer {PROTOCOL_VERSION + 1}" in refused.why


def test_another_schema_is_refused_and_every_difference_is_named() -> None:
    other = StreamSpec("sim/Task", 20.0, 5, (Column("state", "float64", (2,)),))
    refused = Peer(Stage(), spec=other).hello().refusal()
    assert refused.code == "wrong_spec"
    assert "max_steps: expected 4, found 5" in refused.why
    assert "column 'state': expected float32[2], found float64[2]" in refused.why
    assert "camera 'front': missing" in refused.why


def test_a_schema_that_no_dataset_could_hold_is_refused() -> None:
    refused = Peer(Stage(), spec=StreamSpec("../up", 20.0, 5)).hello().refusal()
    assert refused.code == "wrong_spec"
    assert "stream name '../up'" in refused.why


def test_a_reason_is_cut_to_what_its_receiver_can_decode() -> None:
    refused = Peer(Stage(), spec=StreamSpec("/" * 10_000, 20.0, 5)).hello().refusal()
    assert len(refused.why) == MAX_TEXT


def test_a_sink_may_take_only_the_streams_it_was_told_to() -> None:
    stage = Stage(DeliveryConfig(streams=frozenset({"x", "y"})))
    refused = Peer(stage).hello().refusal()
    assert refused.code == "unknown_stream"
    assert "'sim/Task' is not taken here; this sink takes x, y" in refused.why


def test_more_producers_than_windows_are_refused_until_one_leaves() -> None:
    stage = Stage()
    peers = [Peer(stage, name).hello() for name in "abcd"]
    late = Peer(stage, "late").hello()
    refused = late.refusal()
    assert refused.code == "too_many_producers"
    assert f"needs a window of {WINDOW} bytes and 0 are left of {4 * WINDOW}" in refused.why
    peers[0].say(Bye(session=0))
    assert late.hello().heard(Welcome)


def test_a_message_of_an_unknown_session_asks_for_hello() -> None:
    stage = Stage()
    peer = Peer(stage)
    peer.session = 55
    peer.say(Ping(session=0))
    assert (peer.refusal().code, stage.take_orders()) == ("unknown_session", [])


def test_a_message_of_an_earlier_session_changes_nothing() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    assert peer.hello().lease() == [0]
    peer.session = 1
    peer.say(Abandon(session=0, index=0))
    assert peer.refusal().session == 1
    assert stage.sink.books[SPEC.name].leases == {0: 2}


def test_a_lost_message_asks_for_hello() -> None:
    peer = Peer(Stage()).hello()
    peer.heard()
    peer.seq += 1
    peer.say(Ping(session=0))
    assert peer.refusal().code == "unknown_session"


def test_a_repeated_message_is_ignored() -> None:
    peer = Peer(Stage()).hello()
    assert peer.lease() == [0]
    peer.seq -= 1
    assert peer.lease() == []


def test_a_repeated_hello_of_the_open_session_is_ignored() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    assert peer.lease() == [0]
    peer.hello(session=1)
    peer.session = 1
    assert peer.heard() == []
    assert stage.sink.books[SPEC.name].leases == {0: 1}


def test_a_session_number_that_someone_else_has_is_not_taken() -> None:
    stage = Stage()
    Peer(stage, "a").hello()
    refused = Peer(stage, "b").hello(session=1).refusal()
    assert refused.code == "unknown_session"
    assert "session number 1 is in use" in refused.why


def test_ping_is_answered_and_tells_what_the_producer_does() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.heard()
    peer.say(Ping(session=0, state="step 7"))
    assert peer.heard() == [Pong(session=1, seq=1)]
    assert stage.sink.sessions[b"a"].state == "step 7"


def test_after_bye_the_leases_are_free_and_the_session_is_over() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert peer.lease(2) == [0, 1]
    peer.say(Bye(session=0))
    assert other.lease(3) == [0, 1, 2]
    peer.say(Ping(session=0))
    assert peer.refusal().code == "unknown_session"


def test_silence_for_the_time_of_a_lease_ends_the_session() -> None:
    stage = Stage()
    silent, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert silent.lease() == [0]
    silent.say(begin(0))
    silent.say(frames(0), 100)
    stage.take_orders()
    stage.tick(9.9)
    other.say(Ping(session=0))
    assert stage.take_orders() == []
    stage.tick(0.1)
    (forget,) = stage.take_orders()
    assert isinstance(forget, Forget)
    assert other.lease() == [0]
    silent.say(frames(0), 100)
    assert silent.refusal().code == "unknown_session"


def test_the_shell_may_refuse_what_it_cannot_decode() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert peer.lease() == [0]
    stage.sink.reject_peer(stage.now, b"a", peer.session, "bad_message", "what?")
    assert peer.refusal().why == "what?"
    assert other.lease() == [0]


# --- Hello again -------------------------------------------------------------------------------------------------


def test_what_was_held_comes_back_as_it_stands_now() -> None:
    stage = Stage(committed=(0,))
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert peer.lease(2) == [1, 2]
    assert other.lease() == [3]
    send_episode(peer, 1)
    (welcome,) = peer.hello(0, 1, 2, 3, 2).heard(Welcome)
    assert welcome.committed == (0,)
    assert welcome.pending == (1,)
    assert welcome.leased == (2,)
    assert welcome.lost == (3,)


def test_what_was_held_is_not_given_to_those_who_wait() -> None:
    stage = Stage()
    peer = Peer(stage, "a", Goal(end=1)).hello()
    other = Peer(stage, "b", Goal(end=1)).hello()
    assert peer.lease() == [0]
    other.want()
    (welcome,) = peer.hello(0).heard(Welcome)
    assert (welcome.leased, other.heard(Leased)) == ((0,), [])


def test_what_is_held_no_longer_is_given_to_those_who_wait() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a", Goal(end=1)).hello(), Peer(stage, "b", Goal(end=1)).hello()
    assert peer.lease() == [0]
    other.want()
    peer.hello()
    assert [message.indices for message in other.heard(Leased)] == [(0,)]


def test_a_refused_hello_frees_what_was_held() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a", Goal(end=1)).hello(), Peer(stage, "b", Goal(end=1)).hello()
    assert peer.lease() == [0]
    other.want()
    peer.hello(0, protocol=99)
    assert [message.indices for message in other.heard(Leased)] == [(0,)]


def test_a_commit_under_way_is_told_to_the_new_session() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    send_episode(peer, 0)
    (welcome,) = peer.hello(0).heard(Welcome)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert welcome.pending == (0,)
    assert peer.heard() == [Committed(session=2, seq=1, index=0)]


def test_a_commit_under_way_is_not_taken_from_the_session_that_sent_it() -> None:
    stage = Stage()
    zombie, peer = Peer(stage, "zombie").hello(), Peer(stage, "b").hello()
    zombie.lease()
    stage.tick(6)
    peer.say(Ping(session=0))
    stage.tick(6)
    assert peer.lease() == [0]
    send_episode(peer, 0)
    (welcome,) = zombie.hello(0).heard(Welcome)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert welcome.lost == (0,)
    assert [message.index for message in peer.heard(Committed)] == [0]


def test_a_commit_under_way_is_not_given_to_another_though_its_session_is_over() -> None:
    stage = Stage()
    zombie, peer = Peer(stage, "zombie").hello(), Peer(stage, "b").hello()
    zombie.lease()
    stage.tick(6)
    peer.say(Ping(session=0))
    stage.tick(6)
    assert peer.lease() == [0]
    send_episode(peer, 0)
    stage.tick(20)
    (told_zombie,) = zombie.hello(0).heard(Welcome)
    (told_peer,) = peer.hello(0).heard(Welcome)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert (told_zombie.lost, told_peer.pending) == ((0,), (0,))
    assert [message.index for message in peer.heard(Committed)] == [0]


def test_after_a_restart_nothing_new_is_granted_for_a_while() -> None:
    stage = Stage(opened=False)
    stage.open(committed=(0, 1))
    other, peer = Peer(stage, "b").hello(), Peer(stage, "a")
    assert other.lease() == []
    (welcome,) = peer.hello(2, 3).heard(Welcome)
    assert welcome.leased == (2, 3)
    stage.tick(CONFIG.grace_s)
    assert [message.indices for message in other.heard(Leased)] == [(4,)]


def test_a_new_stream_knows_no_grace() -> None:
    stage = Stage(opened=False)
    stage.open()
    assert Peer(stage).hello().lease() == [0]


# --- leases ------------------------------------------------------------------------------------------------------


def test_leases_go_in_turn_to_those_who_want_them() -> None:
    stage = Stage(committed=(1,))
    first, second = Peer(stage, "a", Goal(end=6)).hello(), Peer(stage, "b", Goal(end=6)).hello()
    stage.sink._grace_ends = stage.now + 1  # both ask before anything is granted
    first.want(2)
    second.want(2)
    stage.tick(1)
    assert [message.indices[0] for message in first.heard(Leased)] == [0, 3]
    assert [message.indices[0] for message in second.heard(Leased)] == [2, 4]


def test_who_has_waited_longest_is_next() -> None:
    stage = Stage()
    goals = (Goal(successes=1), Goal(successes=1), Goal(end=50, successes=1))
    first, second, third = (Peer(stage, name, goal).hello() for name, goal in zip("abc", goals, strict=True))
    assert first.lease() == [0]
    third.want()
    second.want()
    for index, (holder, following) in enumerate([(first, third), (third, second), (second, first), (first, third)]):
        holder.want()  # before its own episode ends
        send_episode(holder, index)
        stage.sink.committed(stage.now, SPEC.name, index, Outcome.FAILURE)
        granted = {peer.peer: peer.heard(Leased) for peer in (first, second, third)}
        assert [message.indices for message in granted.pop(following.peer)] == [(index + 1,)]
        assert not any(granted.values())


def test_who_holds_as_many_as_it_may_gets_the_next_when_one_has_ended() -> None:
    config = replace(CONFIG, max_leases=1)  # 16 a session
    stage = Stage(config)
    greedy, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert greedy.lease(18) == list(range(16))
    assert other.lease() == [16]
    send_episode(greedy, 0)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.FAILURE)
    assert [message.indices for message in greedy.heard(Leased)] == [(17,)]
    greedy.say(Abandon(session=0, index=1))
    assert [message.indices for message in greedy.heard(Leased)] == [(1,)]


def test_an_index_goes_to_whose_range_it_is_in() -> None:
    stage = Stage()
    low, high = Peer(stage, "a", Goal(end=1)).hello(), Peer(stage, "b", Goal(start=1, end=2)).hello()
    assert (low.lease(2), high.lease(2)) == ([0], [1])
    high.say(Abandon(session=0, index=1))
    assert (low.heard(Leased), [message.indices for message in high.heard(Leased)]) == ([], [(1,)])
    low.say(Bye(session=0))
    assert high.heard(Leased) == []
    assert Peer(stage, "c", Goal(end=5)).hello().lease(2) == [0, 2]


def test_never_more_leases_than_successes_missing() -> None:
    stage = Stage()
    peer = Peer(stage, goal=Goal(successes=2)).hello()
    assert peer.lease(5) == [0, 1]
    send_episode(peer, 0)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.FAILURE)
    assert [message.indices for message in peer.heard(Leased)] == [(2,)]
    send_episode(peer, 1)
    stage.sink.committed(stage.now, SPEC.name, 1, Outcome.SUCCESS)
    assert peer.heard(Leased) == []


def test_done_when_all_of_the_range_is_committed() -> None:
    stage = Stage()
    peer = Peer(stage, goal=Goal(end=2)).hello()
    assert peer.lease(9) == [0, 1]
    for index in (1, 0):
        send_episode(peer, index)
        assert peer.heard(Done) == []
        stage.sink.committed(stage.now, SPEC.name, index, Outcome.FAILURE)
    assert len(peer.heard(Done)) == 1
    stage.tick(1)
    assert peer.heard(Done) == []


def test_done_at_once_when_the_goal_is_met_before() -> None:
    stage = Stage(committed=(0, 1))
    peer = Peer(stage, goal=Goal(end=2)).hello()
    assert [type(message) for message in peer.heard()] == [Welcome, Done]
    assert peer.lease() == []


def test_an_abandoned_index_goes_to_the_next() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert peer.lease() == [0]
    peer.say(begin(0))
    peer.say(frames(0), 100)
    peer.say(Abandon(session=0, index=0))
    assert [type(order) for order in stage.take_orders()] == [Append, Forget]
    assert other.lease() == [0]


def test_abandoning_what_one_does_not_hold_means_nothing() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    assert other.lease() == [0]
    peer.say(Abandon(session=0, index=0))
    peer.say(Abandon(session=0, index=9))
    assert stage.sink.books[SPEC.name].leases == {0: other.session}
    assert peer.heard(Refused) == []


@pytest.mark.parametrize("message", [begin(0), frames(0), end(0)])
def test_an_index_that_is_not_leased_is_refused(message: FromProducer) -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    sizes = {Begin: (), Frames: (100,), End: (2, 8)}[type(message)]
    peer.say(message, *sizes)
    refused = peer.refusal()
    assert (refused.code, refused.index) == ("not_leased", 0)
    assert stage.take_orders() == []
    assert stage.sink.credit.in_flight_bytes == 0


# --- episodes ----------------------------------------------------------------------------------------------------


def test_an_episode_becomes_orders_and_is_acknowledged_when_durable() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(Document(session=0, sha256=SHA256), 50)
    peer.say(frames(0, count=2), 100, 101)
    peer.say(frames(0, first=2), 102)
    peer.say(end(0, steps=3), 2, 24)
    keep, first, second, finish = stage.take_orders()
    assert keep == Keep(SPEC.name, peer.session, SHA256, 50)
    assert isinstance(first, Append)
    assert isinstance(second, Append)
    assert isinstance(finish, Finish)
    assert (first.first, first.count, first.size) == (0, 2, 201)
    assert (second.first, second.count, second.size) == (2, 1, 102)
    assert (finish.end.steps, finish.size) == (3, 26)
    assert first.attempt == second.attempt == finish.attempt
    assert (finish.attempt.stream, finish.attempt.index, finish.attempt.producer) == (SPEC.name, 0, "a")
    assert stage.sink.committing == 1
    assert peer.heard(Committed) == []
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert [message.index for message in peer.heard(Committed)] == [0]
    assert stage.sink.committing == 0


def test_begin_again_forgets_what_came_before() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), 100)
    peer.say(begin(0))
    peer.say(end(0, Outcome.VOID, steps=0), 2)
    append, forget, finish = stage.take_orders()
    assert isinstance(append, Append)
    assert isinstance(forget, Forget)
    assert isinstance(finish, Finish)
    assert append.attempt == forget.attempt != finish.attempt


@pytest.mark.parametrize(
    ("message", "sizes", "why"),
    [
        (frames(0, first=1), (100,), "expected frames from step 0, found step 1"),
        (frames(0, count=2), (100,), "expected 2 steps of 1 cameras = 2 frames, found 1"),
        (end(0, steps=2), (2, 16), "End says 2 steps, frames came for 0"),
    ],
)
def test_what_does_not_fit_the_spec_ends_the_lease(message: FromProducer, sizes: tuple[int, ...], why: str) -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    assert peer.lease() == [0]
    peer.say(begin(0))
    peer.say(message, *sizes)
    refused = peer.refusal()
    assert (refused.code, refused.index) == ("bad_message", 0)
    assert why in refused.why
    assert [type(order) for order in stage.take_orders()] == []  # the store has not heard of it
    assert peer.lease() == [0]


def test_parts_of_a_refused_episode_that_are_on_their_way_are_dropped() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0, first=3), 100)
    assert peer.refusal().index == 0
    peer.say(frames(0, first=4), 100)
    peer.say(begin(0))
    peer.say(frames(0), 100)
    peer.say(end(0), 2, 8)
    assert peer.heard(Refused) == []
    assert [type(order) for order in stage.take_orders()] == []  # the store has not heard of it
    assert stage.sink.credit.in_flight_bytes == 0


def test_data_that_the_store_rejects_before_the_end() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), 100)
    (append,) = stage.take_orders()
    assert isinstance(append, Append)
    stage.sink.rejected(stage.now, append.attempt, "bad_frame", "no JPEG")
    refused = peer.refusal()
    assert (refused.code, refused.index, refused.why) == ("bad_frame", 0, "no JPEG")
    stage.tick(0)
    assert stage.take_orders() == [Forget(append.attempt)]


def test_a_begin_whose_lease_ended_by_an_abandon_that_crossed_it_is_answered() -> None:
    """The producer gives up index 0 before it hears that it was refused, and leased to it anew."""
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), 100)
    (append,) = stage.take_orders()
    assert isinstance(append, Append)
    stage.sink.rejected(stage.now, append.attempt, "bad_frame", "no JPEG")
    assert peer.lease() == [0]
    peer.say(Abandon(session=0, index=0))
    peer.say(begin(0))
    assert peer.refusal().code == "not_leased"


def test_data_that_the_store_rejects_after_the_end() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    peer.lease()
    finish = send_episode(peer, 0)
    stage.sink.rejected(stage.now, finish.attempt, "bad_checksum", "not what was sent")
    refused = peer.refusal()
    assert (refused.code, refused.index) == ("bad_checksum", 0)
    assert other.lease() == [0]


def test_a_late_rejection_of_an_older_attempt_means_nothing() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), 100)
    (append,) = stage.take_orders()
    assert isinstance(append, Append)
    peer.hello(0)
    peer.say(begin(0))
    stage.sink.rejected(stage.now, append.attempt, "bad_frame", "no JPEG")
    peer.say(frames(0), 100)
    peer.say(end(0), 2, 8)
    stage.sink.rejected(stage.now, append.attempt, "bad_frame", "no JPEG")
    assert stage.sink.committing == 1
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert [type(message) for message in peer.heard()] == [Welcome, Committed]


# --- credit ------------------------------------------------------------------------------------------------------


def test_credit_comes_back_when_the_bytes_have_left_memory() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), 100_000)
    peer.say(frames(0, first=1), 50_000)
    assert peer.heard() == []
    stage.sink.consumed(peer.session, 100_000)
    assert [message.bytes for message in peer.heard(Credit)] == [100_000]
    stage.sink.consumed(peer.session, 50_000)
    assert [message.bytes for message in peer.heard(Credit)] == [50_000]


def test_more_than_the_credit_ends_the_session() -> None:
    stage = Stage()
    peer, other = Peer(stage, "a").hello(), Peer(stage, "b").hello()
    peer.lease()
    peer.say(begin(0))
    peer.say(frames(0), WINDOW)
    peer.say(frames(0, first=1), 1)
    refused = peer.refusal()
    assert (refused.code, refused.index) == ("credit_exceeded", None)
    assert other.lease() == [0]
    assert stage.sink.credit.free_bytes == 2 * WINDOW
    stage.sink.consumed(peer.session, WINDOW)
    assert stage.sink.credit.free_bytes == 3 * WINDOW


@pytest.mark.parametrize(
    ("message", "sizes", "why"),
    [
        (Want(session=0, count=1), (5,), "Want has no payload"),
        (begin(0), (5,), "Begin has no payload"),
        (Abandon(session=0, index=0), (5,), "Abandon has no payload"),
        (Bye(session=0), (5,), "Bye has no payload"),
        (Document(session=0, sha256=SHA256), (5, 5), "one payload frame"),
        (Document(session=0, sha256=SHA256), (0,), "one payload frame"),
        (Document(session=0, sha256=SHA256), (), "one payload frame"),
        (Document(session=0, sha256=SHA256), (MAX_DOCUMENT_BYTES + 1,), "one payload frame"),
        (frames(0), (MAX_FRAME_BYTES + 1,), f"a payload frame is over {MAX_FRAME_BYTES} bytes"),
    ],
)
def test_a_payload_that_no_honest_producer_sends_ends_the_session(
    message: FromProducer, sizes: tuple[int, ...], why: str
) -> None:
    config = DeliveryConfig(credit_bytes=40 << 20, max_producers=4)
    stage = Stage(config)
    peer = Peer(stage).hello()
    peer.lease()
    peer.say(message, *sizes)
    refused = peer.refusal()
    assert (refused.code, refused.index) == ("bad_message", None)
    assert why in refused.why
    assert stage.take_orders() == []
    assert stage.sink.credit.free_bytes == config.credit_bytes


# --- words for people, and the end -------------------------------------------------------------------------------


def test_a_notice_reaches_everyone_of_the_stream_and_those_who_come_later() -> None:
    stage = Stage()
    peer = Peer(stage, "a").hello()
    stage.sink.notice(SPEC.name, "disk full")
    late = Peer(stage, "b").hello()
    assert [message.why for message in peer.heard(Notice)] == ["disk full"]
    assert [message.why for message in late.heard(Notice)] == ["disk full"]
    stage.sink.notice(SPEC.name, "")
    assert [message.why for message in late.heard(Notice)] == [""]
    assert Peer(stage, "c").hello().heard(Notice) == []


def test_a_draining_sink_commits_what_it_has_and_grants_nothing() -> None:
    stage = Stage()
    peer = Peer(stage).hello()
    assert peer.lease() == [0]
    stage.sink.drain()
    assert [type(message) for message in peer.heard()] == [Drain]
    peer.want()
    send_episode(peer, 0)
    stage.sink.committed(stage.now, SPEC.name, 0, Outcome.SUCCESS)
    assert [type(message) for message in peer.heard()] == [Committed]
    assert [type(message) for message in Peer(stage, "b").hello().heard()] == [Welcome, Drain]
