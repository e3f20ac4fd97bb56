"""The whole server over real sockets: what it answers, and what each fault costs."""

from __future__ import annotations

import logging
import re
import threading
import time

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.batcher import BatchLimits
from inference.server import Server, ServerConfig
from protocol.errors import ConfigurationError
from protocol.namo.queries import (
    MAX_QUERY_BYTES,
    Answer,
    Cancel,
    Failed,
    FromServer,
    Info,
    Infos,
    check_answer,
    encode,
)
from tests.inference.conftest import RawClient, RunServer, fetch, metric
from tests.inference.scenes import (
    IS_SLOW,
    NAMES_A_STRANGER,
    RAISES,
    RETURNS_NAN,
    RETURNS_TEXT,
    RETURNS_TOO_FEW,
    SmallModel,
    SmallSource,
    query,
)
from tests.processes import wait_until

OPS = ("rank_objects", "sample_goals", "rank_and_sample")


def code(message: FromServer) -> str:
    return message.code if isinstance(message, Failed) else type(message).__name__


def goals(source: SmallSource) -> SmallModel:
    return source.loaded["goals", "v1"]


@pytest.mark.parametrize("op", OPS)
def test_each_op_is_answered(run_server: RunServer, op: str) -> None:
    server = run_server()
    asked = query(7, op, goals=3, objects=2, samples=8, id=41)
    with RawClient(server.endpoint) as client:
        answer = client.ask(asked)
    assert isinstance(answer, Answer), answer
    check_answer(asked, answer)
    assert answer.id == 41
    assert len(answer.objects) == (0 if op == "sample_goals" else 3)
    assert len(answer.goals) == {"rank_objects": 0, "sample_goals": 3, "rank_and_sample": 6}[op]
    if op == "rank_and_sample":
        assert {goal.object for goal in answer.goals} == {ranked.name for ranked in answer.objects[:2]}
    needed = {"rank_objects": {"objects"}, "sample_goals": {"goals"}, "rank_and_sample": {"objects", "goals"}}[op]
    assert answer.versions == dict.fromkeys(needed, "v1")
    assert answer.device == "cpu"
    assert answer.timing.batch == 1
    assert (answer.timing.draw_s > 0) == (op != "sample_goals")


def test_info_says_what_there_is(run_server: RunServer) -> None:
    with RawClient(run_server().endpoint) as client:
        client.send(Info(id=5))
        found = client.hear()
    assert isinstance(found, Infos)
    assert [(model.name, model.kind, model.version) for model in found.models] == [
        ("goals", "goal", "v1"),
        ("objects", "object", "v1"),
    ]


def test_models_are_warm_before_anyone_is_heard(run_server: RunServer, source: SmallSource) -> None:
    run_server(limits=BatchLimits(max_batch=16))
    assert {model.warmed_up for model in source.loaded.values()} == {16}


@pytest.mark.parametrize(
    ("changes", "expected", "why"),
    [
        ({"object_model": "nobody"}, "unknown_model", "there is no model 'nobody'; there are: goals, objects"),
        ({"object_model": "goals"}, "wrong_model", "needs a model of kind 'object', and 'goals' is of kind 'goal'"),
        ({"goal_model": "objects"}, "wrong_model", "needs a model of kind 'goal'"),
        ({"goal_model": None}, "bad_query", "needs goal_model"),
        ({"poses": ()}, "bad_query", "expected a pose for each of 3 movables, found 0"),
        ({"robot": (float("nan"), 0.0)}, "bad_query", ""),
        ({"reachable": ("somebody",)}, "bad_query", "somebody"),
        ({"in_the_way": ("nobody",)}, "bad_query", "in_the_way names movables of the scene"),
        ({"in_the_way": ("nobody",) * 5000}, "bad_query", "in_the_way"),
        ({"samples": 10**6}, "bad_query", "samples"),
        ({"deadline_s": -1.0}, "bad_query", "deadline_s"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    run_server: RunServer, changes: dict[str, object], expected: str, why: str
) -> None:
    with RawClient(run_server().endpoint) as client:
        refused = client.ask(query(id=3, **changes))  # type: ignore[arg-type]
        assert isinstance(refused, Failed)
        assert (refused.id, refused.code) == (3, expected)
        assert why in refused.why
        assert isinstance(client.ask(query(id=4)), Answer)


@pytest.mark.parametrize("bad", [RAISES, RETURNS_NAN, NAMES_A_STRANGER, RETURNS_TEXT, RETURNS_TOO_FEW])
def test_a_bad_item_fails_alone(run_server: RunServer, source: SmallSource, bad: int) -> None:
    server = run_server()
    with RawClient(server.endpoint) as first, RawClient(server.endpoint) as client:
        first.send(query(IS_SLOW, "sample_goals"))
        assert goals(source).entered.wait(30)
        for number in range(5):  # these queue while the model is busy, and so share a batch
            client.send(query(bad if number == 2 else number, id=number))
        wait_until(lambda: server._work.depth.items == 5, "five queries wait")
        goals(source).gate.set()
        heard = {message.id: message for message in (client.hear() for _ in range(5))}
    assert {number: code(message) for number, message in heard.items()} == {
        0: "Answer", 1: "Answer", 2: "model_failed", 3: "Answer", 4: "Answer"
    }  # fmt: skip
    assert all(message.timing.batch == 5 for message in heard.values() if isinstance(message, Answer))
    if bad in (RAISES, RETURNS_TOO_FEW):
        assert metric(server, "retried_items_total") == 5


def test_an_answer_does_not_depend_on_who_shares_the_batch(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        alone = [client.ask(query(seed, id=seed)) for seed in range(8)]
        client.send(query(IS_SLOW, "sample_goals", id=100))
        assert goals(source).entered.wait(30)
        for seed in range(8):
            client.send(query(seed, id=200 + seed))
        wait_until(lambda: server._work.depth.items == 8, "eight queries wait")
        goals(source).gate.set()
        assert client.hear().id == 100
        together = sorted((client.hear() for _ in range(8)), key=lambda message: message.id)
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert (one.objects, one.goals, other.timing.batch) == (other.objects, other.goals, 8)


def test_expired_is_said_while_the_model_is_busy(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=1, deadline_s=1.5))
        assert goals(source).entered.wait(30)
        began = time.monotonic()
        client.send(query(id=2, deadline_s=0.1))
        assert [(message.id, code(message)) for message in (client.hear(), client.hear())] == [
            (2, "expired"),
            (1, "expired"),
        ]
        assert time.monotonic() - began < 10  # and not when the gate is opened
        goals(source).gate.set()
        assert isinstance(client.ask(query(id=3)), Answer)
        assert client.silent, "the result that came too late was sent"
    assert metric(server, "unwanted_results_total") == 1


def test_a_full_queue_is_busy_and_says_when_to_come_again(run_server: RunServer, source: SmallSource) -> None:
    server = run_server(limits=BatchLimits(max_items=6))
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        for number in range(1, 5):
            client.send(query(id=number))
        refused = client.hear()
        assert isinstance(refused, Failed)
        assert (refused.id, refused.code) == (4, "busy")
        assert refused.retry_after_s > 0
        goals(source).gate.set()
        assert {client.hear().id for _ in range(4)} == {0, 1, 2, 3}


def test_cancelled_queries_are_not_computed_and_not_answered(run_server: RunServer, source: SmallSource) -> None:
    """A storm of them, and then service as usual."""
    server = run_server(limits=BatchLimits(max_items=10_000))
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        for number in range(1, 3001):
            client.send(query(id=number))
            client.send(Cancel(id=number))
        client.send(Cancel(id=0))
        wait_until(lambda: metric(server, "cancelled_total") == 3001, "all were cancelled")
        goals(source).gate.set()
        assert client.ask(query(id=5000)).id == 5000
    assert sum(goals(source).batches) == 2
    assert metric(server, "queries_total", outcome="answered") == 1


def test_the_work_of_a_client_that_is_gone_is_dropped(run_server: RunServer, source: SmallSource) -> None:
    """In the middle of a batch, and in the queue."""
    server = run_server()
    with RawClient(server.endpoint) as stays:
        goes = RawClient(server.endpoint)
        goes.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        for number in range(1, 9):
            goes.send(query(id=number))
        wait_until(lambda: server._work.depth.items == 8, "its queries wait")
        goes.close()
        wait_until(lambda: metric(server, "abandoned_total") == 9, "its queries were dropped")
        goals(source).gate.set()
        assert isinstance(stays.ask(query(id=1)), Answer)
    assert sum(goals(source).batches) == 2
    assert metric(server, "unwanted_results_total") == 1


def test_draining_answers_what_is_queued_and_refuses_the_rest(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        client.send(query(id=1))
        wait_until(lambda: server._work.depth.items == 1, "one waits")
        server.stop()
        assert code(client.ask(query(id=2))) == "draining"
        assert fetch(server, "/healthz") == (503, "draining\n")
        goals(source).gate.set()
        assert [(message.id, code(message)) for message in (client.hear(), client.hear())] == [
            (0, "Answer"),
            (1, "Answer"),
        ]


# --- hot reload -------------------------------------------------------------------------------------------------


def version(client: RawClient) -> str:
    answer = client.ask(query(id=time.monotonic_ns()))
    assert isinstance(answer, Answer)
    return answer.versions["objects"]


def test_new_weights_are_taken_up_and_rolled_back_between_batches(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        assert version(client) == "v1"
        for newer in ("v2", "v1"):
            source.versions["objects"] = newer
            wait_until(lambda newer=newer: version(client) == newer, f"version {newer} is served")  # type: ignore[misc]
    assert source.loaded["objects", "v2"].warmed_up
    wait_until(lambda: 'model="objects",version="v1"' in fetch(server, "/metrics")[1], "the metric tells the version")
    assert 'version="v2"' not in fetch(server, "/metrics")[1]
    assert metric(server, "model_loads_total", result="loaded") == 4


def test_a_batch_that_runs_keeps_its_version(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        source.versions["goals"] = "v2"
        wait_until(lambda: metric(server, "model_loads_total", result="loaded") == 3, "v2 is loaded")
        goals(source).gate.set()
        answer = client.hear()
        assert isinstance(answer, Answer)
        assert answer.versions == {"goals": "v1"}


def test_broken_weights_leave_the_old_ones_in_service(
    run_server: RunServer, source: SmallSource, caplog: pytest.LogCaptureFixture
) -> None:
    server = run_server()
    source.broken.add(("objects", "v2"))
    with RawClient(server.endpoint) as client, caplog.at_level(logging.WARNING):
        source.versions["objects"] = "v2"
        wait_until(lambda: "warning" in fetch(server, "/healthz")[1], "a warning")
        status, text = fetch(server, "/healthz")
        assert status == 200
        assert "warning: model objects: version v1 is served on: objects v2: expected a checkpoint" in text
        assert version(client) == "v1"
        said = [record for record in caplog.records if "half of one" in record.message]
        wait_until(lambda: server._shelf._troubles["objects"].at > time.monotonic() - 0.02, "it was tried again")
        assert len(said) == 1
        source.broken.clear()  # it was half written, and now it is whole
        wait_until(lambda: version(client) == "v2", "the whole one is served")
        assert fetch(server, "/healthz") == (200, "ok\n")


def test_a_model_that_changes_its_kind_is_refused(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    source.kinds["objects"] = "goal"
    source.versions["objects"] = "v2"
    wait_until(lambda: "publish it under another name" in fetch(server, "/healthz")[1], "the reason")
    with RawClient(server.endpoint) as client:
        assert version(client) == "v1"


def test_a_folder_that_is_gone_costs_nothing_but_a_warning(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    source.unreadable = True
    wait_until(lambda: fetch(server, "/healthz") == (200, "ok\nwarning: the folder is gone\n"), "the warning")
    with RawClient(server.endpoint) as client:
        assert version(client) == "v1"


def test_one_broken_model_does_not_keep_the_others_away(run_server: RunServer, source: SmallSource) -> None:
    source.broken.add(("goals", "v1"))
    server = run_server()
    with RawClient(server.endpoint) as client:
        assert isinstance(client.ask(query(op="rank_objects", id=1)), Answer)
        assert code(client.ask(query(id=2))) == "unknown_model"
        source.broken.clear()
        wait_until(lambda: len(server._shelf.models) == 2, "the other one too")
        assert isinstance(client.ask(query(id=3)), Answer)


def test_nothing_to_serve_is_an_error_that_says_why(source: SmallSource, no_leaks: None) -> None:
    del no_leaks
    source.broken |= {("goals", "v1"), ("objects", "v1")}
    with pytest.raises(ConfigurationError, match="model goals: it is not served: goals v1: expected a checkpoint"):
        Server(source, ServerConfig(bind="tcp://127.0.0.1:0"))


# --- health, addresses, strangers -------------------------------------------------------------------------------


def test_health_tells_of_a_model_that_hangs(run_server: RunServer, source: SmallSource) -> None:
    server = run_server(stuck_s=0.2)
    assert fetch(server, "/healthz") == (200, "ok\n")
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=0))
        assert goals(source).entered.wait(30)
        wait_until(lambda: fetch(server, "/healthz")[0] == 503, "503")
        assert "the model thread has been in one batch for" in fetch(server, "/healthz")[1]
        goals(source).gate.set()
        client.hear()
        wait_until(lambda: fetch(server, "/healthz") == (200, "ok\n"), "healthy again")


def test_health_tells_of_a_socket_that_nobody_serves(source: SmallSource, no_leaks: None) -> None:
    del no_leaks
    server = Server(source, ServerConfig(bind="tcp://127.0.0.1:0", http="127.0.0.1:0", stuck_s=0.1))
    wait_until(lambda: "the thread of the socket has not moved" in fetch(server, "/healthz")[1], "the problem")
    assert fetch(server, "/healthz")[0] == 503
    server.stop()
    server.run()


def test_metrics_are_what_happened(run_server: RunServer) -> None:
    server = run_server()
    with RawClient(server.endpoint) as client:
        for number in range(3):
            client.ask(query(id=number))
        client.ask(query(id=3, object_model="nobody"))
    text = fetch(server, "/metrics")[1]
    for line in (
        'headrace_infer_queries_total{outcome="answered"} 3.0',
        'headrace_infer_queries_total{outcome="unknown_model"} 1.0',
        "headrace_infer_batch_items_sum 3.0",
        "headrace_infer_queue_seconds_count 3.0",
        'headrace_infer_model_loads_total{result="loaded"} 2.0',
        'headrace_infer_model_info{kind="goal",model="goals",version="v1"} 1.0',
        "headrace_infer_queue_items 0.0",
    ):
        assert line in text
    # Each was a batch of its own; how long it waited for others depends on how busy the machine is.
    assert sum(map(float, re.findall(r"^headrace_infer_batches_total{.*} (.*)$", text, re.MULTILINE))) == 3
    assert fetch(server, "/else")[0] == 404


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:0", "tcp://192.0.2.1:5556", "tcp://*:5556"])
def test_addresses_that_others_can_reach_are_refused(source: SmallSource, bind: str) -> None:
    with pytest.raises(ConfigurationError, match="can be reached from other machines, and this server has no keys"):
        Server(source, ServerConfig(bind=bind))
    with pytest.raises(ConfigurationError, match="HTTP has no keys"):
        Server(source, ServerConfig(bind="tcp://127.0.0.1:0", http="0.0.0.0:0"))


def test_an_address_that_is_taken_is_one_clear_error(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with pytest.raises(ConfigurationError, match="Address already in use; is another server there"):
        Server(source, ServerConfig(bind=server.endpoint))


def test_an_ipc_address_is_for_its_owner(run_server: RunServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "infer"
    server = run_server(bind=f"ipc://{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    with RawClient(server.endpoint) as client:
        assert isinstance(client.ask(query(id=1)), Answer)


def test_what_is_too_large_cuts_its_sender_off_and_nobody_else(run_server: RunServer) -> None:
    server = run_server()
    with RawClient(server.endpoint) as large, RawClient(server.endpoint) as client:
        large.socket.send(bytes(MAX_QUERY_BYTES + 1))
        assert isinstance(client.ask(query(id=1, movables=64)), Answer)
        assert large.silent


def test_a_scene_with_too_many_boxes_is_a_bad_query(run_server: RunServer) -> None:
    with RawClient(run_server().endpoint) as client:
        refused = client.ask(query(id=1, movables=65))
        assert code(refused) == "bad_query"


GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda cut, flip: _damaged(encode(query(id=9)), cut, flip), st.integers(0, 3000), st.integers(0, 3000)),
)


def _damaged(data: bytes, cut: int, flip: int) -> bytes:
    flipped = bytearray(data[: max(cut % len(data), 1)] if cut % 2 else data)
    flipped[flip % len(flipped)] ^= 1 << flip % 8
    return bytes(flipped)


def test_garbage_from_strangers_hurts_nobody(run_server: RunServer) -> None:
    server = run_server()
    with RawClient(server.endpoint) as stranger, RawClient(server.endpoint) as client:

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(GARBAGE, min_size=1, max_size=4))
        def send(frames: list[bytes]) -> None:
            stranger.socket.send_multipart(frames)
            while stranger.socket.poll(0):
                stranger.socket.recv_multipart()

        send()
        # The stranger's connection is still served, and so is everybody else's.
        stranger.send(query(id=2**62))
        ends = time.monotonic() + 30
        while stranger.hear().id != 2**62:
            assert time.monotonic() < ends
        assert isinstance(client.ask(query(id=1)), Answer)
    assert metric(server, "unreadable_total") > 0


def test_a_second_thread_answers_while_the_first_is_in_a_model(run_server: RunServer, source: SmallSource) -> None:
    server = run_server(threads=2)
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=1))
        assert goals(source).entered.wait(30)
        for number in range(2, 10):
            assert client.ask(query(id=number)).id == number
        goals(source).gate.set()
        assert client.hear().id == 1


def test_health_tells_of_any_thread_that_hangs(run_server: RunServer, source: SmallSource) -> None:
    server = run_server(threads=3, stuck_s=2.0)
    with RawClient(server.endpoint) as client:
        client.send(query(IS_SLOW, "sample_goals", id=1))
        wait_until(lambda: fetch(server, "/healthz")[0] == 503, "the thread that hangs is told")
        assert isinstance(client.ask(query(id=2)), Answer)
        goals(source).gate.set()
        assert client.hear().id == 1
        wait_until(lambda: fetch(server, "/healthz")[0] == 200, "all threads move again")


@pytest.mark.parametrize("threads", [1, 4])
def test_many_clients_share_batches(run_server: RunServer, source: SmallSource, threads: int) -> None:
    server = run_server(threads=threads)
    answered: list[int] = []

    def plan(number: int) -> None:
        with RawClient(server.endpoint) as client:
            for asked in range(20):
                answer = client.ask(query(number, id=asked))
                assert isinstance(answer, Answer)
                answered.append(answer.timing.batch)

    threads = [threading.Thread(target=plan, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answered) == 320
    assert max(answered) > 4 or threads > 1
    assert sum(source.loaded["objects", "v1"].batches) == 320


def test_a_client_that_does_not_read_costs_only_its_own_answers(run_server: RunServer) -> None:
    server = run_server()
    with RawClient(server.endpoint) as deaf, RawClient(server.endpoint) as client:
        deaf.socket.set(zmq.RCVHWM, 1)
        for number in range(3000):
            deaf.send(query(id=number, op="rank_objects"))
        assert isinstance(client.ask(query(id=1)), Answer)
