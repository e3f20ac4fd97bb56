"""Every kind of wrong producer and wrong surroundings: one clear error where it belongs, and the others go on."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocol.errors import ConfigurationError, DatasetError, LockedError
from protocol.jpeg import encode as encode_jpeg
from protocol.messages import (
    Begin,
    Committed,
    Document,
    Goal,
    Notice,
    Ping,
    Pong,
    Refused,
    Welcome,
    encode,
)
from protocol.spec import Camera, StreamSpec
from sink import shard_file, stream_store, writer
from sink.daemon import Sink, SinkConfig
from sink.stream_store import PREPARE_AT
from tests.fakes import CheckingReader, CountedEpisode, counted_episode, counting_spec
from tests.live_sink import RunSink
from tests.processes import SinkProcess, wait_until
from tests.raw_producer import RawProducer
from tests.tmpfs import Tmpfs

SPEC = counting_spec()


def deliver(producer: RawProducer, index: int) -> None:
    """Send a whole episode and wait until it is durable."""
    producer.end(producer.begin(index))
    while producer.hear(Committed).index != index:
        pass


class Witness:
    """A producer that does everything right, before and after another one does something wrong."""

    def __init__(self, sink: Sink) -> None:
        self.root = sink.config.data
        self.producer = RawProducer(sink.endpoint, name="witness")
        self.delivered: list[int] = []
        self._next = self.producer.lease()

    def deliver(self) -> None:
        """One more episode."""
        deliver(self.producer, self._next)
        self.delivered.append(self._next)
        self._next = self.producer.next_lease()

    def check(self, *others: int) -> None:
        """The sink goes on, and everything committed is there, whole."""
        self.deliver()
        assert CheckingReader(self.root).indices == sorted((*self.delivered, *others))


@pytest.fixture
def sink(run_sink: RunSink) -> Sink:
    return run_sink()


@pytest.fixture
def witness(sink: Sink) -> Iterator[Witness]:
    made = Witness(sink)
    with made.producer:
        made.deliver()
        yield made


def refusals(sink: Sink) -> dict[str, float]:
    """code → how many were counted."""
    families = {family.name: family for family in text_string_to_metric_families(get(sink, "/metrics"))}
    return {s.labels["code"]: s.value for s in families["headrace_sink_refused"].samples if s.name.endswith("_total")}


def leases(sink: Sink) -> int | None:
    """How many indices are leased out, by the latest snapshot."""
    leased: int | None = status(sink)["streams"].get(SPEC.name, {}).get("leases")
    return leased


def get(sink: Sink, path: str) -> str:
    with urllib.request.urlopen(f"http://{sink.http_address}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


# --- refused at the door ----------------------------------------------------------------------------------------------


def changed(**fields: Any) -> StreamSpec:
    return msgspec.structs.replace(SPEC, **fields)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (changed(rate_hz=50.0), "rate_hz: expected 20.0, found 50.0"),
        (changed(cameras=SPEC.cameras[:1]), "camera 'camera1': missing"),
        (
            changed(cameras=(SPEC.cameras[0], Camera("camera1", 10, 10))),
            "camera 'camera1': expected 48×64, found 10×10",
        ),
        (changed(columns=SPEC.columns[1:]), "column 'action': missing"),
    ],
)
def test_another_schema_is_refused_and_the_difference_named(
    sink: Sink, witness: Witness, spec: StreamSpec, why: str
) -> None:
    with RawProducer(sink.endpoint, spec) as wrong:
        wrong.hello()
        refused = wrong.refusal()
        assert refused.code == "wrong_spec"
        assert refused.index is None
        assert why in refused.why
        assert "tests/counting" in refused.why
    witness.check()
    assert refusals(sink) == {"wrong_spec": 1}


def test_a_spec_that_no_dataset_could_hold_is_refused(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint, changed(name="../outside")) as wrong:
        wrong.hello()
        assert wrong.refusal().code == "wrong_spec"
    witness.check()


def test_a_stream_that_is_not_taken_is_refused(run_sink: RunSink) -> None:
    sink = run_sink(delivery={"streams": frozenset({SPEC.name})})
    witness = Witness(sink)
    with RawProducer(sink.endpoint, counting_spec("tests/other")) as wrong, witness.producer:
        wrong.hello()
        refused = wrong.refusal()
        assert refused.code == "unknown_stream"
        assert "'tests/other' is not taken here; this sink takes tests/counting" in refused.why
        witness.check()
    assert not (sink.config.data / "tests/other").exists()


def test_another_version_of_the_protocol_is_refused(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        wrong.hello(protocol=7)
        refused = wrong.refusal()
        assert refused.code == "protocol_version"
        assert "the sink speaks version 1, the producer 7" in refused.why
        assert refused.session == wrong.session
    witness.check()


def test_a_hello_of_a_future_version_is_refused_although_it_cannot_be_decoded(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        header = {"type": "hello", "session": 5, "protocol": 9, "producer": 3, "shape": "unheard of"}
        wrong.socket.send_multipart([msgspec.msgpack.encode(header)])
        refused = wrong.refusal()
        assert (refused.code, refused.session) == ("protocol_version", 5)
        assert "the producer 9" in refused.why
    witness.check()


def test_more_producers_than_the_memory_bound_allows_are_refused(run_sink: RunSink) -> None:
    sink = run_sink(delivery={"credit_bytes": 1 << 20, "max_producers": 2})
    with RawProducer(sink.endpoint) as one, RawProducer(sink.endpoint) as two, RawProducer(sink.endpoint) as three:
        index = one.lease()
        two.lease()
        three.hello()
        refused = three.refusal()
        assert refused.code == "too_many_producers"
        assert "0 are left of 1048576" in refused.why
        deliver(one, index)


# --- wrong data: the index is refused, the session goes on ------------------------------------------------------------

Frame = Callable[[CountedEpisode], bytes]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        pytest.param(lambda _: b"no jpeg at all" * 20, "expected a JPEG, found 280 bytes", id="no JPEG"),
        pytest.param(lambda _: b"\xff", "expected a JPEG, found 1 bytes", id="one byte"),
        pytest.param(
            lambda _: encode_jpeg(np.zeros((10, 20, 3), np.uint8)), "expected 48×64 pixels, found 10×20", id="size"
        ),
        pytest.param(lambda made: made.frames["camera1"][0][:-3], "is cut off", id="truncated"),
        pytest.param(lambda made: made.frames["camera1"][0][:40], "expected a JPEG", id="truncated in its header"),
    ],
)
def test_a_bad_frame_is_refused(sink: Sink, witness: Witness, frame: Frame, why: str) -> None:
    with RawProducer(sink.endpoint) as wrong:
        index = wrong.lease()
        made = counted_episode(SPEC, index)
        wrong.send(Begin(session=0, index=index))
        wrong.frames(index, 0, [made.frames["camera0"][0], frame(made)])
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("bad_frame", index)
        assert f"index {index}, step 0, camera 'camera1': " in refused.why
        assert why in refused.why
        # What was on its way meanwhile is dropped without another word, and the session goes on.
        wrong.frames(index, 1, [made.frames["camera0"][0], made.frames["camera1"][0]])
        wrong.end(made)
        again = wrong.next_lease()
        deliver(wrong, again)
        assert sum(isinstance(message, Refused) for message in wrong.heard) == 1
    witness.check(again)
    assert refusals(sink) == {"bad_frame": 1}


def bad_payload(made: CountedEpisode, place: int, data: bytes) -> list[bytes]:
    payload = made.payload()
    payload[place] = data
    return payload


def with_nan(made: CountedEpisode) -> list[bytes]:
    action = made.columns["action"].copy()
    action[-1, 1] = np.nan
    return bad_payload(made, 1, action.tobytes())


BadEnd = tuple[Callable[[CountedEpisode], list[bytes]], dict[str, Any], str, str]

BAD_ENDS: dict[str, BadEnd] = {
    "NaN": (with_nan, {}, "bad_columns", "column 'action', step {last}: NaN or infinity, which the spec forbids"),
    "column too short": (
        lambda made: bad_payload(made, 1, made.payload()[1][:-4]), {}, "bad_message",
        "column 'action': expected {steps} steps × 12 bytes",
    ),
    "column of another shape": (
        lambda made: bad_payload(made, 1, np.zeros((made.steps, 4), "<f4").tobytes()), {}, "bad_message",
        "column 'action': expected {steps} steps × 12 bytes",
    ),
    "column missing": (lambda made: made.payload()[:-1], {}, "bad_message", "and 5 columns as payload, found 5 frames"),
    "changed column": (
        lambda made: bad_payload(made, 2, bytes(8 * made.steps)), {}, "bad_checksum", "expected checksum "
    ),
    "wrong checksum": (lambda made: made.payload(), {"checksum": 1}, "bad_checksum", "expected checksum 000000000000"),
    "attributes no JSON": (lambda made: bad_payload(made, 0, b"{oops"), {}, "bad_message", "are no JSON object"),
    "attributes a list": (lambda made: bad_payload(made, 0, b"[1,2]"), {}, "bad_message", "are no JSON object"),
    "attributes too deep": (
        lambda made: bad_payload(made, 0, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), {}, "bad_message", "JSON"
    ),
    "too many steps": (lambda made: made.payload(), {"steps": 41}, "bad_message", "41 steps; expected 1 to"),
    "steps without frames": (lambda made: made.payload(), {"steps": 40}, "bad_message", "End says 40 steps"),
    "unknown document": (
        lambda made: made.payload(), {"documents": ("0" * 64,)}, "bad_message", "document 0000000"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "changes", "code", "why"), BAD_ENDS.values(), ids=BAD_ENDS)
def test_a_bad_end_is_refused(
    sink: Sink,
    witness: Witness,
    payload: Callable[[CountedEpisode], list[bytes]],
    changes: dict[str, Any],
    code: str,
    why: str,
) -> None:
    with RawProducer(sink.endpoint) as wrong:
        index = wrong.lease(Goal(start=100))
        assert counted_episode(SPEC, index).outcome == 1
        made = wrong.begin(index)
        wrong.end(made, payload(made), **changes)
        refused = wrong.refusal()
        assert (refused.code, refused.index) == (code, index)
        assert why.format(last=made.steps - 1, steps=made.steps) in refused.why
        # Done right, the same index is taken: a refusal costs work, never the index.
        again = wrong.next_lease()
        assert again == index
        deliver(wrong, again)
        assert sum(isinstance(message, Refused) for message in wrong.heard) == 1
    witness.check(index)
    assert refusals(sink) == {code: 1}


def test_a_document_that_is_not_what_its_name_says_is_not_stored(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        index = wrong.lease(Goal(start=100))
        made = wrong.begin(index)
        wrong.send(Document(session=0, sha256=made.end().documents[0]), b"something else")
        wrong.send(made.end(), *made.payload())
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("bad_message", index)
        assert made.end().documents[0] in refused.why
        assert wrong.next_lease() == index
        deliver(wrong, index)
    witness.check(index)


def test_an_index_that_is_not_leased_is_refused(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        mine = wrong.lease()
        wrong.send(Begin(session=0, index=witness._next))
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("not_leased", witness._next)
        deliver(wrong, mine)
    witness.check(mine)


# --- wrong messages: the session is over ------------------------------------------------------------------------------


def test_more_bytes_than_the_credit_are_refused(run_sink: RunSink) -> None:
    sink = run_sink(delivery={"credit_bytes": 1 << 20, "max_producers": 4})
    witness = Witness(sink)
    with RawProducer(sink.endpoint) as wrong, witness.producer:
        wrong.hello()
        credit = wrong.hear(Welcome).credit
        index = wrong.next_lease()
        wrong.send(Begin(session=0, index=index))
        wrong.send(Document(session=0, sha256="0" * 64), bytes(credit + 1))
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("credit_exceeded", None)
        assert f"{credit + 1} payload bytes" in refused.why
        wrong.send(Ping(session=0))
        assert wrong.refusal().code == "unknown_session"
        witness.check()


def garbage(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randrange(1, 200)) for _ in range(50)]


def test_garbage_from_a_stranger_is_counted_and_harms_nobody(
    sink: Sink, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    with RawProducer(sink.endpoint) as wrong, caplog.at_level(logging.WARNING):
        sent = [b"", b"\xc1", b"\x91" * 5000, *garbage(1)]
        for header in sent:
            wrong.socket.send_multipart([header])
        index = wrong.lease()  # it may still say Hello
        deliver(wrong, index)
    wait_until(lambda: refusals(sink).get("bad_message", 0) >= len(sent), "all garbage is counted")
    assert "does not fit the protocol" in caplog.text
    witness.check(index)


@pytest.mark.parametrize("header", [b"\xc1", b"", msgspec.msgpack.encode({"type": "want"})])
def test_garbage_ends_the_session_of_the_one_who_sent_it(sink: Sink, witness: Witness, header: bytes) -> None:
    with RawProducer(sink.endpoint) as wrong:
        wrong.lease()
        wrong.socket.send_multipart([header])
        refused = wrong.refusal()
        assert (refused.code, refused.index, refused.session) == ("bad_message", None, wrong.session)
        assert "does not fit the protocol" in refused.why
    witness.check()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "want", "count": 0},
        {"type": "want", "count": "three"},
        {"type": "begin", "index": -1},
        {"type": "frames", "index": 0, "first": 0, "count": 5000},
        {"type": "end", "index": 0},
        {"type": "document", "sha256": "../../etc"},
        {"type": "unheard of"},
        {"type": "welcome"},
    ],
)
def test_a_message_that_does_not_fit_is_refused_with_the_place(
    sink: Sink, witness: Witness, message: dict[str, Any]
) -> None:
    with RawProducer(sink.endpoint) as wrong:
        wrong.lease()
        header = msgspec.msgpack.encode({**message, "session": wrong.session, "seq": wrong.seq})
        wrong.socket.send_multipart([header])
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("bad_message", None)
        assert "does not fit the protocol, version 1: " in refused.why
    witness.check()


def test_an_oversize_header_is_refused(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        wrong.lease()
        message = {"type": "want", "count": 1, "session": wrong.session, "seq": wrong.seq, "more": bytes(2 << 20)}
        wrong.socket.send_multipart([msgspec.msgpack.encode(message)])
        refused = wrong.refusal()
        assert (refused.code, refused.session) == ("bad_message", wrong.session)
        assert "at most 1048576" in refused.why
    witness.check()


def test_a_frame_over_the_limit_is_not_even_received(sink: Sink) -> None:
    with RawProducer(sink.endpoint) as wrong:
        index = wrong.lease()
        wrong.send(Document(session=0, sha256="0" * 64), bytes(5 << 20))
        # libzmq closes the connection, and comes back under another identity: a stranger.
        wrong.send(Ping(session=0))
        assert wrong.refusal().code == "unknown_session"
    witness = Witness(sink)
    with witness.producer:

        def only_the_witness() -> bool:
            witness.producer.send(Ping(session=0))  # silent, it would lose its lease at about the same time
            return leases(sink) == 1

        wait_until(only_the_witness, "its lease ends")
        assert index == 0
        witness.check()


def test_frames_out_of_step_are_refused(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        index = wrong.lease()
        made = counted_episode(SPEC, index)
        wrong.send(Begin(session=0, index=index))
        wrong.frames(index, 3, made.messages()[0])
        refused = wrong.refusal()
        assert (refused.code, refused.index) == ("bad_message", index)
        assert "expected frames from step 0, found step 3" in refused.why
    witness.check()


def test_a_lost_message_ends_the_session(sink: Sink, witness: Witness) -> None:
    with RawProducer(sink.endpoint) as wrong:
        wrong.lease()
        wrong.seq += 1
        wrong.send(Ping(session=0))
        refused = wrong.refusal()
        assert refused.code == "unknown_session"
        wrong.session, wrong.seq = wrong.session + 1, 0
        wrong.hello()
        wrong.hear(Welcome)
        wrong.send(Ping(session=0))
        wrong.hear(Pong)
    witness.check()


# --- the disk ---------------------------------------------------------------------------------------------------------


def status(sink: Sink) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(sink, "/status"))
    return found


def health(sink: Sink) -> tuple[int, str]:
    try:
        return 200, get(sink, "/healthz")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_full_disk_stalls_one_stream_says_why_and_goes_on_by_itself(
    tmpfs: Tmpfs, run_sink: RunSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_file, "DISK_RESERVE_BYTES", 1 << 20)
    monkeypatch.setattr(writer, "LOOK_AFTER_SHARDS_S", 0.2)
    sink = run_sink(data=tmpfs.path, delivery={"lease_s": 30.0})
    other = RawProducer(sink.endpoint, counting_spec("tests/other"), name="other")
    with RawProducer(sink.endpoint) as full, other:
        other_index = other.lease()
        index = full.lease()
        acked = []
        assert health(sink) == (200, "ok\n")
        while True:  # until there is no room for one more shard
            made = full.begin(index)
            full.end(made)
            message = full.hear(Committed | Notice)  # type: ignore[arg-type]
            if isinstance(message, Notice):
                break
            acked.append(index)
            index = full.next_lease()
        assert "disk full: " in message.why
        assert "free some space (collection goes on by itself)" in message.why
        wait_until(lambda: health(sink)[0] == 503, "/healthz tells")
        assert "stream tests/counting: disk full: " in health(sink)[1]
        assert "disk full" in status(sink)["streams"]["tests/counting"]["waits"]
        assert status(sink)["streams"]["tests/other"]["waits"] == ""
        for _ in range(3):  # the other stream has room in its own shard
            deliver(other, other_index)
            other_index = other.next_lease()
        with RawProducer(sink.endpoint) as late:
            late.hello()
            assert "disk full: " in late.hear(Notice).why
        assert CheckingReader(tmpfs.path).indices == acked
        tmpfs.remount(64)
        assert full.hear(Notice).why == ""
        assert full.hear(Committed).index == index
        wait_until(lambda: health(sink) == (200, "ok\n"), "/healthz is content again")
    assert CheckingReader(tmpfs.path).indices == [*acked, index]
    assert CheckingReader(tmpfs.path, counting_spec("tests/other")).indices == [0, 1, 2]


def test_a_shortage_is_told_before_anyone_has_to_wait(run_sink: RunSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota has room for one shard: what fits it is committed, and that no other will follow is said half way."""
    monkeypatch.setattr(writer, "LOOK_AFTER_SHARDS_S", 0.02)
    sink = run_sink(quota_bytes=3 << 20, delivery={"lease_s": 30.0})
    with RawProducer(sink.endpoint) as producer:
        index = producer.lease()
        shard = sink._writer._stores[SPEC.name].active
        filler = sink.config.data / "filler"
        filler.write_bytes(bytes(2 << 20))
        while shard.fill < PREPARE_AT:
            deliver(producer, index)
            index = producer.next_lease()
        wait_until(lambda: "warning" in health(sink)[1], "/healthz warns")
        code, text = health(sink)
        assert code == 200
        assert text.startswith("ok\nwarning: stream tests/counting will have to wait when its shard is full: disk full")
        assert "of the quota of 3.1 MB; free some space below" in text
        assert status(sink)["streams"]["tests/counting"]["waits"] == ""
        acked = []
        while True:
            producer.end(producer.begin(index))
            if isinstance(producer.hear(Committed | Notice), Notice):  # type: ignore[arg-type]
                break
            acked.append(index)
            index = producer.next_lease()
        assert acked, "the rest of the shard was not used"
        wait_until(lambda: health(sink)[0] == 503, "/healthz tells")
        filler.unlink()
        assert producer.hear(Notice).why == ""
        assert producer.hear(Committed).index == index
        wait_until(lambda: health(sink) == (200, "ok\n"), "/healthz is content again")
    assert CheckingReader(sink.config.data).indices == list(range(index + 1))


def test_a_shortage_that_is_found_while_an_episode_waits_is_told(
    run_sink: RunSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart: the next shard is needed before it is known that it cannot be made."""
    monkeypatch.setattr(writer, "LOOK_AFTER_SHARDS_S", 0.02)
    monkeypatch.setattr(stream_store, "PREPARE_AT", 2.0)
    sink = run_sink(quota_bytes=3 << 20, delivery={"lease_s": 30.0})
    with RawProducer(sink.endpoint) as producer:
        index = producer.lease()
        filler = sink.config.data / "filler"
        filler.write_bytes(bytes(2 << 20))
        while True:
            producer.end(producer.begin(index))
            if isinstance(heard := producer.hear(Committed | Notice), Notice):  # type: ignore[arg-type]
                break
            index = producer.next_lease()
        assert "disk full: " in heard.why
        wait_until(lambda: health(sink)[0] == 503, "/healthz tells")
        filler.unlink()
        assert producer.hear(Notice).why == ""
        assert producer.hear(Committed).index == index
        wait_until(lambda: health(sink) == (200, "ok\n"), "/healthz is content again")
    assert CheckingReader(sink.config.data).indices == list(range(index + 1))


def test_a_new_stream_on_a_full_disk_is_refused(sink: Sink, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "DISK_RESERVE_BYTES", 1 << 50)
    with RawProducer(sink.endpoint, counting_spec("tests/new")) as late:
        late.hello()
        refused = late.refusal()
        assert refused.code == "storage"
        assert "disk full: " in refused.why
    witness.check()


def test_a_stream_whose_folder_cannot_be_made_is_refused(sink: Sink, witness: Witness) -> None:
    (sink.config.data / "blocked").write_text("a file in its place")
    with RawProducer(sink.endpoint, counting_spec("blocked/stream")) as wrong:
        wrong.hello()
        refused = wrong.refusal()
        assert refused.code == "storage"
        assert "blocked" in refused.why
    witness.check()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path, no_leaks: None) -> None:
    del no_leaks
    (tmp_path / "data").write_text("")
    with pytest.raises(DatasetError, match=r"cannot write to the dataset directory .*data: .*choose another --data"):
        Sink(SinkConfig(tmp_path / "data", "tcp://127.0.0.1:0"))


def test_a_read_only_directory_is_refused(tmpfs: Tmpfs, no_leaks: None) -> None:
    del no_leaks
    tmpfs.read_only()
    with pytest.raises(DatasetError, match=r"cannot write to the dataset directory .*: Read-only file system"):
        Sink(SinkConfig(tmpfs.path, "tcp://127.0.0.1:0"))


def test_a_foreign_directory_is_refused(tmp_path: Path, no_leaks: None) -> None:
    del no_leaks
    (tmp_path / "dataset.json").write_text('{"something": "else"}')
    with pytest.raises(DatasetError, match=r"dataset\.json: not the identity of a Headrace dataset"):
        Sink(SinkConfig(tmp_path, "tcp://127.0.0.1:0"))


@pytest.mark.timeout(30)
def test_a_stream_with_two_schemas_is_refused_at_the_start(run_sink: RunSink, tmp_path: Path) -> None:
    folder = tmp_path / "data/tests/counting"
    folder.mkdir(parents=True)
    capacity = shard_file.Capacity(8192, 100, 16)
    shard_file.create_shard(folder, 0, SPEC, capacity, "uuid")
    shard_file.create_shard(folder, 1, changed(rate_hz=3.0), capacity, "uuid")
    with pytest.raises(DatasetError, match=r"000001\.h5 has another schema: rate_hz"):
        run_sink()


@pytest.mark.timeout(30)
def test_a_damaged_dataset_is_refused_at_the_start(run_sink: RunSink, tmp_path: Path) -> None:
    folder = tmp_path / "data/tests/counting"
    folder.mkdir(parents=True)
    (folder / "000000.h5").write_bytes(b"no shard")
    with pytest.raises(DatasetError, match=r"000000\.h5: not a Headrace shard"):
        run_sink()


# --- the surroundings -------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named(sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"cannot bind {sink.endpoint}: Address already in use; .*--bind"):
        Sink(SinkConfig(tmp_path / "second", sink.endpoint))
    # The lock was given back.
    Sink(SinkConfig(tmp_path / "second", "tcp://127.0.0.1:0"))._undo.close()


def test_an_http_port_that_is_taken_is_named(sink: Sink, tmp_path: Path) -> None:
    address = sink.http_address
    with pytest.raises(ConfigurationError, match=rf"cannot serve HTTP on {address}: Address already in use; .*--http"):
        Sink(SinkConfig(tmp_path / "second", "tcp://127.0.0.1:0", address))


def test_a_second_sink_on_the_same_data_names_the_first(sink: Sink, witness: Witness) -> None:
    with pytest.raises(LockedError) as raised:
        Sink(SinkConfig(sink.config.data, "tcp://127.0.0.1:0"))
    assert str(os.getpid()) in str(raised.value)
    assert sink.endpoint in str(raised.value)
    assert socket.gethostname() in str(raised.value)
    witness.check()


@pytest.mark.parametrize(
    "bind", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.0.1:0", "tcp://[::]:5555", "tcp://example.org:1"]
)
def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, bind: str) -> None:
    with pytest.raises(ConfigurationError, match="can be reached from other machines"):
        Sink(SinkConfig(tmp_path, bind))
    with pytest.raises(ConfigurationError, match="can be reached from other machines"):
        Sink(SinkConfig(tmp_path, "tcp://127.0.0.1:0", bind.removeprefix("tcp://")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bind", ["127.0.0.1:5555", "udp://127.0.0.1:5", "tcp://", "ipc://", "tcp://127.0.0.1"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, bind: str) -> None:
    with pytest.raises(ConfigurationError):
        Sink(SinkConfig(tmp_path, bind))


def test_ipc_works_as_well(run_sink: RunSink, tmp_path: Path) -> None:
    sink = run_sink(bind=f"ipc://{tmp_path}/socket")
    with RawProducer(sink.endpoint) as producer:
        deliver(producer, producer.lease())


# --- what it shows ----------------------------------------------------------------------------------------------------


def metrics(sink: Sink) -> dict[tuple[str, ...], float]:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(get(sink, "/metrics"))
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_metrics_parse_and_agree_with_what_was_sent(sink: Sink, witness: Witness) -> None:
    for _ in range(9):
        witness.deliver()
    made = [counted_episode(SPEC, index) for index in witness.delivered]
    wait_until(lambda: status(sink)["streams"].get(SPEC.name, {}).get("episodes") == 10, "the snapshot is fresh")
    # The snapshot is made before the gauges are set from it.
    wait_until(lambda: metrics(sink).get(("headrace_sink_leases", SPEC.name)) == 1, "the gauges are fresh")
    samples = metrics(sink)
    for name, code in (("success", 1), ("failure", 2), ("void", 3)):
        wanted = sum(episode.outcome == code for episode in made)
        assert samples["headrace_sink_episodes_total", name, SPEC.name] == wanted
    assert samples["headrace_sink_frames_total", SPEC.name] == sum(len(e.messages()) * 2 for e in made)
    assert samples["headrace_sink_steps_total", SPEC.name] == sum(e.end().steps for e in made)
    assert samples["headrace_sink_producers",] == 1
    assert samples["headrace_sink_in_flight_bytes",] == 0
    assert samples["headrace_sink_ack_seconds_count",] == 10
    assert samples["headrace_sink_commit_seconds_count",] == 10
    assert samples["headrace_sink_disk_free_bytes",] > 0


@pytest.mark.usefixtures("witness")
def test_status_says_who_does_what(sink: Sink) -> None:
    wait_until(lambda: leases(sink) == 1, "the snapshot is fresh")
    found = status(sink)
    assert found["ready"] is True
    assert found["problems"] == []
    assert found["credit_bytes"] == 16 << 20
    stream = found["streams"][SPEC.name]
    assert (stream["episodes"], stream["successes"], stream["since_start"]["success"]) == (1, 1, 1)
    assert [producer["name"] for producer in found["producers"]] == ["witness"]
    assert found["producers"][0]["stream"] == SPEC.name


def test_http_answers_before_the_first_snapshot_and_knows_its_pages(sink: Sink) -> None:
    assert health(sink)[0] in (200, 503)
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(sink, "/secrets")
    with raised.value as error:
        assert error.code == 404
        assert b"/metrics, /healthz or /status" in error.read()


def is_free(data: Path) -> bool:
    """Nobody holds the lock of a dataset."""
    with open(data / "sink.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_totals_survive_a_restart(run_sink: RunSink, tmp_path: Path) -> None:
    first = run_sink()
    with RawProducer(first.endpoint) as producer:
        index = producer.lease()
        for _ in range(6):
            deliver(producer, index)
            index = producer.next_lease()
    first.stop()
    wait_until(lambda: is_free(tmp_path / "data"), "the first sink has stopped")
    second = run_sink()
    wait_until(lambda: status(second)["ready"], "it is ready")
    stream = status(second)["streams"][SPEC.name]
    assert (stream["episodes"], stream["successes"]) == (6, 4)
    with RawProducer(second.endpoint) as producer:
        assert producer.lease() == 6


# --- the program ------------------------------------------------------------------------------------------------------


def test_sigterm_drains_and_ends_with_status_0(tmp_path: Path) -> None:
    with SinkProcess(tmp_path) as process:
        sink = process.ready()
        with RawProducer(sink.endpoint) as producer:
            sent = [producer.lease()]
            sent += [producer.next_lease() for _ in range(5)]
            for index in sent:
                producer.end(producer.begin(index))
            producer.hear(Committed)
            assert sink.terminate() == 0
    assert "draining" in sink.output
    assert "stopped; every acknowledged episode is in " in sink.output
    assert "Traceback" not in sink.output
    reader = CheckingReader(tmp_path)
    assert set(reader.indices) <= set(sent)
    assert sent[0] in reader.indices
    assert [path.name for path in reader.paths()] == ["000000.h5"]


def test_sigint_ends_with_status_0_also_when_nothing_ever_came(tmp_path: Path) -> None:
    with SinkProcess(tmp_path, "--http", "None") as process:
        sink = process.ready()
        assert sink.http == "None"
        sink.child.send_signal(2)
        assert sink.wait() == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--bind", "tcp://0.0.0.0:0"), "can be reached from other machines"),
        (("--lease-s", "0"), "--lease-s 0.0: expected 1 to 3600 seconds"),
        (("--shard-mib", "0"), "--shard-mib, --memory-mib, --max-producers and --max-streams must be at least 1"),
        (("--memory-mib", "90"), "--memory-mib 90 is too little"),
        (("--max-connections", "3"), "--max-connections 3: expected at least --max-producers 16"),
    ],
)
def test_a_wrong_flag_ends_the_program_with_one_sentence(tmp_path: Path, flags: Sequence[str], why: str) -> None:
    with SinkProcess(tmp_path, *flags) as process:
        assert process.wait() == 1
        assert why in process.output
        assert "Traceback" not in process.output
        assert len(process.output.splitlines()) <= 2


def test_a_second_program_on_the_same_data_ends_with_one_sentence(tmp_path: Path) -> None:
    with SinkProcess(tmp_path) as first, SinkProcess(tmp_path / "other"):
        first.says("READY")
        with SinkProcess(tmp_path) as second:
            assert second.wait() == 1
            assert f'"pid": {first.child.pid}' in second.output
            assert "Traceback" not in second.output


def test_headers_are_never_more_than_messages(sink: Sink, witness: Witness) -> None:
    """A multipart of one empty frame, of many, and of none but the identity."""
    with RawProducer(sink.endpoint) as wrong:
        wrong.socket.send(b"")
        wrong.socket.send_multipart([b""] * 100)
        wrong.socket.send_multipart([encode(Ping(session=1)), *[b"x"] * 1000])
        assert wrong.refusal().code == "unknown_session"
    witness.check()


def test_the_socket_of_a_dead_sink_can_be_bound_again_at_once(tmp_path: Path) -> None:
    with SinkProcess(tmp_path) as process:
        first = process.ready()
        first.kill()
    with SinkProcess(tmp_path, bind=first.endpoint) as process:
        again = process.ready()
        assert again.endpoint == first.endpoint
