"""Sinks with keys: who is let in, who is not, and that neither needs a restart. Real sockets on both sides."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import zmq
from prometheus_client import CollectorRegistry, Counter
from zmq.utils.monitor import recv_monitor_message

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ConfigurationError
from protocol.keys import read_client_key
from protocol.messages import Begin, Leased, Want, Welcome
from sink.access import Access
from sink.daemon import Sink, SinkConfig
from sink.zap import ZapHandler
from tests.fakes import CheckingReader, counted_episode, counting_spec, publish
from tests.live_sink import RunSink
from tests.processes import wait_until
from tests.raw_producer import RawProducer
from tests.security.key_ring import KeyRing, curve

SPEC = counting_spec()
# Who of both sees first that only one has keys is chance, and only the other hears why: that may take many attempts.
DEADLINE_S = 120.0


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def sink(run_sink: RunSink, keys: KeyRing) -> Sink:
    return run_sink(keys=keys.path)


def connect(endpoint: str, key: Path | None, end: int = 3) -> Publisher:
    return Publisher(endpoint, SPEC, Goal(end=end), PublisherConfig(key=key))


def produce(publisher: Publisher) -> None:
    with publisher:
        for index in publisher.leases():
            publish(publisher, index)


def stored(sink: Sink) -> list[int]:
    return CheckingReader(sink.config.data).indices


def rejected(sink: Sink, reason: str) -> float:
    return sink.metrics.registry.get_sample_value("headrace_sink_rejected_total", {"reason": reason}) or 0.0


class EnoughError(Exception):
    """The test has seen what it waited for."""


def turned_away(publisher: Publisher, caplog: pytest.LogCaptureFixture, *texts: str) -> None:
    """The producer waits for a lease in vain, and one warning of it has all these texts."""
    ends = time.monotonic() + DEADLINE_S

    def check() -> None:
        if any(all(text in message for text in texts) for message in caplog.messages):
            raise EnoughError
        assert time.monotonic() < ends, (texts, caplog.messages)

    with pytest.raises(EnoughError):
        next(publisher.leases(check))


# --- let in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://0.0.0.0:0", "tcp://*:0", "ipc://{tmp}/socket"])
def test_an_allowed_producer_delivers_on_every_kind_of_endpoint(
    run_sink: RunSink, keys: KeyRing, tmp_path: Path, bind: str
) -> None:
    sink = run_sink(bind=bind.format(tmp=tmp_path), keys=keys.path)
    produce(connect(sink.endpoint.replace("0.0.0.0", "127.0.0.1"), keys.client()))
    assert stored(sink) == [0, 1, 2]


def test_the_environment_names_the_key(
    sink: Sink, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_KEY", str(keys.client()))
    produce(connect(sink.endpoint, None))
    assert stored(sink) == [0, 1, 2]
    monkeypatch.setenv("HEADRACE_KEY", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere is no key file"):
        connect(sink.endpoint, None)


def test_the_bytes_on_the_wire_are_encrypted(sink: Sink, keys: KeyRing) -> None:
    """A relay between the two sees the greeting, which names CURVE, and then nothing that it could read."""
    with Relay(sink.endpoint) as relay:
        produce(connect(relay.endpoint, keys.client()))
    assert stored(sink) == [0, 1, 2]
    assert b"CURVE" in relay.seen
    assert SPEC.name.encode() not in relay.seen
    # As long as that, because three bytes of a JPEG's start turn up in any megabyte of noise now and then.
    assert counted_episode(SPEC, 1).frames["camera0"][0][:16] not in relay.seen


class Relay:
    """Carries bytes between one producer and the sink, and keeps them."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self.seen = b""
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self._listener.close()

    def _run(self) -> None:
        near = self._listener.accept()[0]
        # A side that closes before it has read everything resets the connection.
        with near, socket.create_connection(self._target) as far, suppress(ConnectionResetError, BrokenPipeError):
            while True:
                for end, other in ((near, far), (far, near)):
                    if end not in select.select([near, far], [], [])[0]:
                        continue
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    self.seen += data
                    other.sendall(data)


# --- turned away ------------------------------------------------------------------------------------------------------


def test_a_stranger_gets_nothing_and_the_honest_one_beside_it_is_served(
    sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = keys.client("stranger", allow=False)
    public = read_client_key(stranger).public
    outside = connect(sink.endpoint, stranger)
    produce(connect(sink.endpoint, keys.client("lab")))
    turned_away(outside, caplog, "does not allow our key 'stranger'", f"headrace keys allow KEYS stranger '{public}'")
    outside.close(flush=False)
    assert stored(sink) == [0, 1, 2]
    assert rejected(sink, "unknown_key") >= 1
    told = [message for message in caplog.messages if message.startswith("turned away a producer at 127.0.0.1")]
    assert len(told) == 1, "the rate of these lines is limited"
    assert f"headrace keys allow {keys.path} NAME '{public}'" in told[0]


def test_without_a_key_nobody_comes_in(sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    outside = connect(sink.endpoint, None)
    produce(connect(sink.endpoint, keys.client()))
    turned_away(outside, caplog, f"the sink at {sink.endpoint} wants a key, and we have none", "headrace keys new KEYS")
    outside.close(flush=False)
    assert stored(sink) == [0, 1, 2]


def test_a_key_for_a_sink_without_keys(run_sink: RunSink, keys: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    """It would be served by anyone who answers at that address, and in clear: so it is not."""
    sink = run_sink()
    outside = connect(sink.endpoint, keys.client())
    turned_away(outside, caplog, "has no keys, and we have the key 'lab'")
    outside.close(flush=False)
    produce(connect(sink.endpoint, None))
    assert stored(sink) == [0, 1, 2]


def test_the_key_file_of_another_sink(
    sink: Sink, keys: KeyRing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = KeyRing(tmp_path / "other")
    path = other.client()
    keys.allow(read_client_key(path))
    outside = connect(sink.endpoint, path)
    turned_away(outside, caplog, "hangs up before the connection is made", other.sink.public, "headrace keys list")
    outside.close(flush=False)
    produce(connect(sink.endpoint, keys.client("mine")))
    assert stored(sink) == [0, 1, 2]


# --- changes without a restart ----------------------------------------------------------------------------------------


def test_allowing_lets_a_waiting_producer_in(sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    path = keys.client(allow=False)
    publisher = connect(sink.endpoint, path)
    turned_away(publisher, caplog, "does not allow our key 'lab'")
    keys.allow(read_client_key(path))
    produce(publisher)
    assert stored(sink) == [0, 1, 2]


def test_revoking_counts_at_the_next_connection_and_allowing_again_too(
    sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    path = keys.client()
    produce(connect(sink.endpoint, path))
    keys.revoke()
    again = connect(sink.endpoint, path, end=5)
    turned_away(again, caplog, "does not allow our key 'lab'")
    assert stored(sink) == [0, 1, 2]
    keys.allow(read_client_key(path))
    produce(again)
    assert stored(sink) == [0, 1, 2, 3, 4]


def test_revoking_ends_the_session_that_is_open(sink: Sink, keys: KeyRing) -> None:
    with (
        RawProducer(sink.endpoint, options=curve(keys.client("bad"))) as bad,
        RawProducer(sink.endpoint, options=curve(keys.client("good"))) as good,
    ):
        index = bad.lease(Goal(end=1))
        good.hello(Goal(end=1))
        good.hear(Welcome)
        good.send(Want(session=0, count=1))
        keys.revoke("bad")
        assert bad.refusal().code == "unknown_session"
        wait_until(lambda: len(sink.delivery.sessions) == 1, "one session is left")
        made = good.begin(good.hear(Leased).indices[0])
        assert made.index == index, "its index has gone to the other"
        bad.session += 1
        bad.seq = 0
        bad.hello(Goal(end=1))
        wait_until(lambda: rejected(sink, "revoked_key") >= 1, "its Hello is not taken, on the connection it still has")
        good.end(made)
        wait_until(lambda: stored(sink) == [index], "the other one's episode is stored")
        assert len(sink.delivery.sessions) == 1


# --- among the allowed ------------------------------------------------------------------------------------------------


def test_a_permitted_producer_cannot_take_over_another_ones_session(
    sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(sink.endpoint, keys.client("victim")) as victim:
        leases = victim.leases()
        index = next(leases)
        ((identity, session),) = sink.delivery.sessions.items()
        options = {**curve(keys.client("thief")), zmq.IDENTITY: identity}
        with RawProducer(sink.endpoint, name="thief", options=options) as thief:
            # It even knows the session and the next number, and the connection is now its own.
            thief.session, thief.seq = session.number, session.next_in
            thief.send(Begin(session=0, index=index))
            thief.session += 1
            thief.seq = 0
            thief.hello()
            wait_until(lambda: rejected(sink, "stolen_identity") >= 2, "both messages were refused")
            assert "thief sends under an identity that belongs to victim" in caplog.text
            assert not session.episodes
            assert {each.producer.name for each in sink.delivery.sessions.values()} <= {session.producer.name}
        publish(victim, index)
        for index in leases:
            publish(victim, index)
    found = CheckingReader(sink.config.data)
    assert found.indices == [0, 1, 2]
    assert {row.producer for row in found.stored.values()} == {session.producer.name}


# --- fail closed ------------------------------------------------------------------------------------------------------


def attempt(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, key: Path) -> zmq.Event:
    """How the handshake of a producer ends."""
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.LINGER, 0)
    for option, value in curve(key).items():
        dealer.set(option, value)
    ends = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    with dealer.get_monitor_socket(ends) as monitor:
        dealer.connect(endpoint)
        dealer.send(b"let me in")
        assert monitor.poll(DEADLINE_S * 1000)
        event = recv_monitor_message(monitor)["event"]
        dealer.disable_monitor()
    dealer.close()
    return zmq.Event(event)


def test_nobody_is_let_in_while_nobody_answers(keys: KeyRing, no_leaks: None) -> None:
    del no_leaks
    access = Access(keys.path, Counter("rejected", "", ["reason"], registry=CollectorRegistry()))
    key = keys.client()
    with zmq.Context() as context:
        handler = access.start(context)
        with context.socket(zmq.ROUTER) as router:
            access.secure(router)
            router.bind("tcp://127.0.0.1:0")
            endpoint = router.get_string(zmq.LAST_ENDPOINT)
            assert attempt(context, endpoint, key) is zmq.Event.HANDSHAKE_SUCCEEDED
            assert router.recv_multipart()[1] == b"let me in"
            handler.close()
            assert attempt(context, endpoint, key) is not zmq.Event.HANDSHAKE_SUCCEEDED
            assert not router.poll(0)


def test_a_sink_whose_doorkeeper_died_ends(
    keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    del no_leaks

    def die(*_: object) -> list[bytes]:
        raise ZeroDivisionError

    monkeypatch.setattr(ZapHandler, "_answer", die)
    key = keys.client()
    config = SinkConfig(tmp_path / "data", "tcp://127.0.0.1:0", shard_bytes=1 << 20, keys=keys.path)
    sink = Sink(config)
    publisher = connect(sink.endpoint, key)
    with pytest.raises(ZeroDivisionError):
        sink.run()
    publisher.close(flush=False)


def spoil_with_garbage(allowed: Path) -> None:
    (allowed / "broken.pub").write_text("not a key\n")


def spoil_with_a_name(allowed: Path) -> None:
    (allowed / "-rf.pub").write_text((allowed / "lab.pub").read_text())


def spoil_with_a_mode(allowed: Path) -> None:
    (allowed / "open.pub").write_text("x" * 40)
    (allowed / "open.pub").chmod(0o666)


def spoil_with_a_folder(allowed: Path) -> None:
    (allowed / "folder.pub").mkdir()


@pytest.mark.parametrize(
    "spoil", [spoil_with_garbage, spoil_with_a_name, spoil_with_a_mode, spoil_with_a_folder], ids=lambda f: f.__name__
)
def test_a_file_that_does_not_count_is_named_and_the_others_count(
    sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = keys.client()
    spoil(keys.path / "allowed")
    wait_until(lambda: ".pub does not count: " in caplog.text, "it is said")
    produce(connect(sink.endpoint, path))
    assert stored(sink) == [0, 1, 2]


def spoil_all_by_mode(allowed: Path) -> None:
    allowed.chmod(0o777)


def spoil_all_by_removal(allowed: Path) -> None:
    allowed.rename(allowed.with_name("gone"))


@pytest.mark.parametrize("spoil", [spoil_all_by_mode, spoil_all_by_removal], ids=lambda f: f.__name__)
def test_a_folder_that_cannot_be_trusted_lets_nobody_in(
    sink: Sink, keys: KeyRing, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = keys.client()
    spoil(keys.path / "allowed")
    outside = connect(sink.endpoint, path)
    turned_away(outside, caplog, "does not allow our key")
    outside.close(flush=False)
    assert "nobody is let in: " in caplog.text


# --- before it starts -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path, no_leaks: None) -> Iterator[Callable[..., str]]:
    """Start a sink that must not start; returns why. Nothing is written."""
    del no_leaks

    def start(keys: Path | None, bind: str = "tcp://127.0.0.1:0") -> str:
        with pytest.raises(ConfigurationError) as raised:
            Sink(SinkConfig(tmp_path / "data", bind, keys=keys))
        return str(raised.value)

    yield start
    assert not (tmp_path / "data").exists()


def test_without_keys_the_refusal_names_the_commands_that_make_them(refused: Callable[..., str]) -> None:
    why = refused(None, "tcp://0.0.0.0:5555")
    for command in ("`headrace keys new KEYS`", "`headrace keys new KEYS --client NAME`", "--keys KEYS"):
        assert command in why


def test_a_directory_without_keys(refused: Callable[..., str], tmp_path: Path) -> None:
    assert f"make one with: headrace keys new {tmp_path / 'none'}" in refused(tmp_path / "none", "tcp://*:0")


def test_a_secret_that_others_can_read(refused: Callable[..., str], keys: KeyRing) -> None:
    (keys.path / "sink.key").chmod(0o640)
    assert f"chmod 600 {keys.path / 'sink.key'}" in refused(keys.path)


def test_halves_of_two_pairs(refused: Callable[..., str], keys: KeyRing, tmp_path: Path) -> None:
    mixed = msgspec.structs.replace(keys.sink, public=KeyRing(tmp_path / "other").sink.public)
    (keys.path / "sink.key").write_bytes(msgspec.json.encode(mixed))
    assert "is not that of its secret key" in refused(keys.path)


def test_no_allow_list(refused: Callable[..., str], keys: KeyRing) -> None:
    (keys.path / "allowed").rmdir()
    assert f"cannot read {keys.path / 'allowed'}: No such file" in refused(keys.path)
