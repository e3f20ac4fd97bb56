"""The rules of the producer's side, one by one, in the words of the messages."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Any

import msgspec
import pytest

from protocol.errors import EpisodeError
from protocol.messages import (
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
from protocol.producer_delivery import MAX_HELLO_INTERVAL_S, RETRY_FULL_SINK_S, Event, ProducerDelivery
from protocol.spec import MAX_DOCUMENT_BYTES, Camera, Column, StreamSpec

SPEC = StreamSpec("sim/Task", 20.0, 9, (Column("state", "float32", (2,)),), (Camera("front", 64, 64),))
GOAL = Goal(successes=3)
ME = Producer("me")
HEARTBEAT_S = 2.0


class Stage:
    """A producer's machine, a clock, and a sink that says what the test wants, with the right session and place."""

    def __init__(self, welcome: bool = True) -> None:
        self.now = 100.0
        numbers = count(1)
        self.machine = ProducerDelivery(ME, SPEC, GOAL, self.now, lambda: next(numbers))
        self.session = self.seq = 0
        if welcome:
            self.welcome()

    def sent(self) -> list[FromProducer]:
        """The messages that leave now."""
        messages = [outgoing.message for outgoing in self.machine.take_outgoing()]
        if messages and isinstance(messages[0], Hello):
            self.session, self.seq = messages[0].session, 0
        return messages

    def say(self, message: FromSink) -> None:
        self.machine.receive(self.now, msgspec.structs.replace(message, session=self.session, seq=self.seq))
        self.seq += 1

    def welcome(self, credit: int = 300_000, **changes: Any) -> None:
        """Answer the Hello that leaves now, and forget about it."""
        (hello,) = self.sent()
        assert isinstance(hello, Hello)
        answer = Welcome(session=0, epoch=1, credit=credit, heartbeat_s=HEARTBEAT_S, lease_s=10.0)
        self.say(msgspec.structs.replace(answer, **changes))
        self.events()

    def tick(self, seconds: float) -> bool:
        self.now += seconds
        return self.machine.tick(self.now)

    def lose_connection(self) -> None:
        """A message of the sink is missing."""
        self.seq += 1
        self.say(Pong(session=0))

    def events(self) -> list[Event]:
        return self.machine.take_events()

    def lease(self, *indices: int) -> None:
        self.say(Leased(session=0, indices=indices))
        assert self.events() == [Event("leased", index) for index in indices]

    def record(self, index: int, document: bytes = b"xml") -> None:
        """A whole episode of one step."""
        self.machine.begin(index)
        self.machine.frames(index, 0, 1, [b"jpeg"])
        self.machine.end(end(index), [b"{}", bytes(8)], [document])


def end(index: int) -> End:
    return End(session=0, index=index, outcome=Outcome.SUCCESS, steps=1, seed=0, began_ns=0, ended_ns=0, checksum=0)


def kinds(messages: list[FromProducer]) -> list[type[Any]]:
    return [type(message) for message in messages]


EPISODE = [Begin, Frames, Document, End]


# --- sessions ----------------------------------------------------------------------------------------------------


def test_the_first_word_is_hello() -> None:
    stage = Stage(welcome=False)
    assert stage.sent() == [Hello(session=1, seq=0, protocol=1, producer=ME, spec=SPEC, goal=GOAL)]
    assert not stage.machine.ready


def test_hello_is_said_again_under_a_new_number_and_ever_less_often() -> None:
    stage = Stage(welcome=False)
    stage.sent()
    said = []
    for tenth in range(1, 300):
        if stage.tick(0.1):
            said.append(tenth // 10)
            assert kinds(stage.sent()) == [Hello]
    assert said == [1, 3, 7, 15, 23]
    assert stage.session == 1 + len(said)
    stage.machine.receive(stage.now, Welcome(session=1, epoch=1, credit=1, heartbeat_s=1, lease_s=1))
    assert not stage.machine.ready
    assert stage.tick(MAX_HELLO_INTERVAL_S)
    stage.welcome()
    stage.lose_connection()
    assert kinds(stage.sent()) == [Hello]
    assert stage.tick(1.1)


def test_what_is_said_before_the_welcome_waits() -> None:
    stage = Stage(welcome=False)
    stage.machine.want(3)
    assert kinds(stage.sent()) == [Hello]
    stage.say(Welcome(session=0, epoch=9, credit=1000, heartbeat_s=1, lease_s=1))
    assert stage.sent() == [Want(session=1, seq=1, count=3)]
    assert stage.machine.epoch == 9


def test_messages_are_numbered() -> None:
    stage = Stage()
    for _ in range(3):
        stage.machine.want(1)
    assert [message.seq for message in stage.sent()] == [1, 2, 3]


def test_a_missing_message_makes_it_say_hello() -> None:
    stage = Stage()
    stage.lose_connection()
    assert kinds(stage.sent()) == [Hello]


def test_a_repeated_message_is_ignored() -> None:
    stage = Stage()
    stage.lease(3)
    stage.seq -= 1
    stage.say(Leased(session=0, indices=(3,)))
    assert stage.events() == stage.sent() == []


def test_a_message_of_an_earlier_session_is_ignored() -> None:
    stage = Stage()
    stage.lose_connection()
    stage.welcome()
    stage.machine.receive(stage.now, Leased(session=1, seq=stage.seq, indices=(3,)))
    stage.machine.receive(stage.now, Refused(session=1, seq=stage.seq, code="wrong_spec", why=""))
    assert stage.events() == stage.sent() == []
    assert not stage.machine.finished


def test_an_unknown_session_makes_it_say_hello_whatever_the_number_of_the_refusal() -> None:
    stage = Stage()
    stage.machine.receive(stage.now, Refused(session=stage.session, seq=77, code="unknown_session", why=""))
    assert kinds(stage.sent()) == [Hello]


def test_a_full_sink_is_asked_again_later() -> None:
    stage = Stage(welcome=False)
    stage.sent()
    stage.say(Refused(session=0, code="too_many_producers", why="full"))
    assert stage.events() == [Event("notice", why="full")]
    assert not stage.tick(RETRY_FULL_SINK_S - 0.1)
    assert stage.tick(0.1)
    assert kinds(stage.sent()) == [Hello]


def test_any_other_refusal_is_the_end() -> None:
    stage = Stage()
    stage.say(Refused(session=0, code="wrong_spec", why="no"))
    assert stage.events() == [Event("refused", None, "wrong_spec", "no")]
    assert stage.machine.finished
    assert not stage.tick(100)
    assert stage.sent() == []


def test_a_ping_at_every_heartbeat_even_while_there_is_much_to_say() -> None:
    stage = Stage()
    stage.machine.state = "x" * 200
    pings = 0
    for _ in range(100):
        stage.tick(0.1)
        stage.machine.want(1)
        said = stage.sent()
        pings += Ping in kinds(said)
        for message in said:
            if isinstance(message, Ping):
                assert message.state == "x" * 120
                stage.say(Pong(session=0))
    assert pings == 4 or pings == 5


def test_a_silent_connection_is_made_new() -> None:
    stage = Stage()
    assert not stage.tick(3 * HEARTBEAT_S)
    assert stage.tick(0.1)
    assert kinds(stage.sent()) == [Hello]
    assert not stage.tick(0.1)


def test_a_slow_link_is_not_taken_for_a_dead_one_twice() -> None:
    """The answer comes after 8 s, two more than three heartbeats: the second session waits for it, and so do others."""
    stage = Stage()
    assert stage.tick(6.1)
    for _ in range(3):
        stage.welcome()
        assert not stage.tick(8.0)
        for _ in range(20):
            stage.say(Credit(session=0, bytes=1))
        assert not stage.tick(8.0)
        stage.say(Credit(session=0, bytes=1))
        stage.machine.break_session(stage.now)
    stage.welcome()
    for _ in range(100):
        assert not stage.tick(0.5)
        stage.say(Pong(session=0))
    assert stage.tick(6.1), "the link is fast again: three heartbeats are enough"


def test_patience_ends_with_the_lease() -> None:
    stage = Stage()
    for _ in range(10):
        assert not stage.tick(6.0)
        assert stage.tick(4.1)
        stage.welcome()
    stage.say(Credit(session=0, bytes=1))
    assert stage.tick(6.1), "the sink has taken something at once: the link is fast"


def test_words_of_the_sink_for_the_user() -> None:
    stage = Stage()
    stage.say(Notice(session=0, why="disk full"))
    stage.say(Drain(session=0))
    stage.say(Done(session=0))
    assert stage.events() == [Event("notice", why="disk full"), Event("drain"), Event("done")]
    assert not stage.machine.finished


def test_bye_is_the_last_word() -> None:
    stage = Stage()
    stage.lease(0)
    stage.record(0)
    stage.machine.bye()
    assert kinds(stage.sent()) == [Bye]
    assert stage.machine.finished
    assert stage.sent() == []


def test_bye_before_the_welcome_is_said_too() -> None:
    stage = Stage(welcome=False)
    stage.machine.bye()
    assert kinds(stage.sent()) == [Hello, Bye]


# --- episodes ----------------------------------------------------------------------------------------------------


def test_an_episode_goes_out_part_by_part_and_is_kept_until_it_is_committed() -> None:
    stage = Stage()
    stage.lease(5)
    assert stage.machine.holds(5)
    stage.record(5)
    begin, frames, document, last = stage.sent()
    assert begin == Begin(session=1, seq=1, index=5)
    assert frames == Frames(session=1, seq=2, index=5, first=0, count=1, sizes=(4,))
    assert document == Document(session=1, seq=3, sha256=hashlib.sha256(b"xml").hexdigest())
    assert isinstance(last, End)
    assert last.documents == (document.sha256,)
    assert (stage.machine.unacknowledged, stage.machine.unacknowledged_bytes) == (1, 14)
    stage.say(Committed(session=0, index=5))
    assert stage.events() == [Event("committed", 5)]
    assert not stage.machine.holds(5)
    assert (stage.machine.unacknowledged, stage.machine.unacknowledged_bytes) == (0, 0)


def test_a_document_goes_out_once_a_session() -> None:
    stage = Stage()
    stage.lease(0, 1)
    stage.record(0)
    stage.record(1)
    assert kinds(stage.sent()) == [*EPISODE, Begin, Frames, End]
    stage.lose_connection()
    stage.welcome(leased=(0, 1))
    assert kinds(stage.sent()) == [*EPISODE, Begin, Frames, End]


def test_nothing_leaves_that_the_credit_does_not_cover() -> None:
    stage = Stage(welcome=False)
    stage.welcome(credit=5)
    stage.lease(0, 1)
    stage.record(0)
    stage.record(1)
    assert kinds(stage.sent()) == [Begin, Frames]
    stage.say(Credit(session=0, bytes=1))
    assert stage.sent() == []
    stage.say(Credit(session=0, bytes=2))
    assert kinds(stage.sent()) == [Document]
    stage.say(Credit(session=0, bytes=8))
    assert stage.sent() == []
    stage.say(Credit(session=0, bytes=1))
    assert kinds(stage.sent()) == [End, Begin]


def test_after_a_new_welcome_each_index_goes_its_way() -> None:
    stage = Stage()
    stage.lease(0, 1, 2, 3, 4)
    for index in (0, 1, 2, 3):
        stage.record(index)
    assert len(stage.sent()) == 13
    stage.lose_connection()
    (hello,) = stage.sent()
    assert isinstance(hello, Hello)
    assert hello.holding == (0, 1, 2, 3, 4)
    stage.say(
        Welcome(
            session=0,
            epoch=2,
            credit=300_000,
            heartbeat_s=1,
            lease_s=1,
            committed=(0,),
            lost=(1,),
            pending=(2,),
            leased=(3, 4),
        )
    )
    assert stage.events() == [Event("committed", 0), Event("lost", 1), Event("welcome")]
    again = stage.sent()
    assert kinds(again) == EPISODE
    assert {message.index for message in again if not isinstance(message, Document)} == {3}  # type: ignore[union-attr]
    assert [stage.machine.holds(index) for index in range(5)] == [False, False, True, True, True]


def test_a_refused_index_is_dropped() -> None:
    stage = Stage()
    stage.lease(0)
    stage.record(0)
    stage.say(Refused(session=0, index=0, code="bad_frame", why="no JPEG"))
    assert stage.events() == [Event("refused", 0, "bad_frame", "no JPEG")]
    assert stage.sent() == []
    assert not stage.machine.holds(0)


def test_an_abandoned_index_is_given_back_and_its_parts_are_not_sent() -> None:
    stage = Stage()
    stage.lease(0)
    stage.record(0)
    stage.machine.abandon(0)
    stage.machine.abandon(7)
    assert stage.sent() == [Abandon(session=1, seq=1, index=0)]
    stage.say(Committed(session=0, index=0))
    assert stage.events() == []


def test_an_index_that_was_abandoned_after_hello_is_given_back_when_it_is_leased_again() -> None:
    stage = Stage()
    stage.lease(0)
    stage.lose_connection()
    stage.machine.abandon(0)
    stage.welcome(leased=(0,))
    assert kinds(stage.sent()) == [Abandon]


def test_what_is_recorded_of_a_lost_index_goes_nowhere() -> None:
    stage = Stage()
    stage.record(0)
    stage.machine.begin_again(0)
    assert stage.sent() == []


def test_begin_again_sends_the_new_attempt_only() -> None:
    stage = Stage()
    stage.lease(0)
    stage.machine.begin(0)
    stage.machine.frames(0, 0, 1, [b"jpeg"])
    assert kinds(stage.sent()) == [Begin, Frames]
    stage.machine.frames(0, 1, 1, [b"jpeg"])
    stage.machine.begin_again(0)
    stage.machine.end(end(0), [b"{}"])
    assert kinds(stage.sent()) == [Begin, End]


def test_an_ended_episode_does_not_begin_again() -> None:
    stage = Stage()
    stage.lease(0)
    stage.record(0)
    stage.machine.begin_again(0)
    assert kinds(stage.sent()) == EPISODE


def test_wants_that_were_not_granted_are_repeated() -> None:
    stage = Stage()
    stage.machine.want(3)
    stage.sent()
    stage.lease(0)
    stage.lose_connection()
    stage.welcome(leased=(0,))
    assert stage.sent() == [Want(session=2, seq=1, count=2)]
    stage.say(Done(session=0))
    stage.lose_connection()
    stage.welcome(leased=(0,))
    assert stage.sent() == []


@pytest.mark.parametrize("size", [0, MAX_DOCUMENT_BYTES + 1])
def test_a_document_that_the_sink_would_refuse(size: int) -> None:
    stage = Stage()
    stage.lease(0)
    stage.machine.begin(0)
    with pytest.raises(EpisodeError, match=f"index 0: a document has {size} bytes; expected 1 to {MAX_DOCUMENT_BYTES}"):
        stage.machine.end(end(0), [b"{}"], [bytes(size)])


def test_a_message_that_no_credit_might_ever_cover() -> None:
    stage = Stage()
    stage.lease(0)
    stage.machine.begin(0)
    size = SPEC.min_window_bytes
    stage.machine.frames(0, 0, 1, [bytes(size)])
    with pytest.raises(EpisodeError, match=f"index 0: {size + 1} bytes in one message; the stream allows {size}"):
        stage.machine.frames(0, 1, 1, [bytes(size), b"x"])


def test_sessions_and_what_was_sent_again_are_counted() -> None:
    stage = Stage()
    stage.lease(0, 1, 2)
    stage.record(0)
    stage.record(1)
    stage.sent()
    assert (stage.machine.sessions, stage.machine.resent) == (1, 0)
    stage.lose_connection()
    stage.welcome(leased=(0, 2), committed=(1,))
    assert (stage.machine.sessions, stage.machine.resent) == (2, 1)


def test_a_session_that_makes_no_sense_is_broken_off() -> None:
    stage = Stage()
    stage.lease(0)
    stage.machine.break_session(stage.now)
    (hello,) = stage.sent()
    assert isinstance(hello, Hello)
    assert hello.holding == (0,)
