"""The planner's side: an answer or a reason within the deadline, whatever the server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq
from msgspec.structs import replace

from producers.query_client import NoAnswerError, QueryClient, QueryClientConfig
from protocol.errors import ConfigurationError
from protocol.namo.queries import (
    Answer,
    Cancel,
    Failed,
    FromServer,
    PushGoal,
    Query,
    RankedObject,
    Timing,
    decode_from_client,
    encode,
)
from protocol.namo.scene import Box
from tests.inference.conftest import RunServer, metric
from tests.inference.scenes import IS_SLOW, SmallSource, query
from tests.processes import Process, wait_until

CONFIG = QueryClientConfig(deadline_s=20.0, backoff_s=0.2)
HASTY = QueryClientConfig(deadline_s=0.3, backoff_s=30.0)
# A busy machine may be late by this much; that an answer was waited for shows in more.
TOLERANCE_S = 2.0


def answer_to(asked: Query, **changes: object) -> Answer:
    """What a good server would say."""
    settings = {
        "id": asked.id,
        "objects": (RankedObject(asked.reachable[0], 1.0),),
        "goals": (PushGoal(asked.reachable[0], 0.0, 0.0, 0.0, 1.0),),
        "versions": {"objects": "v1"},
        "device": "cpu",
        "timing": Timing(0.0, 0.0, 0.0, 1),
    }
    return Answer(**{**settings, **changes})  # type: ignore[arg-type]


@contextmanager
def scripted(reply: Callable[[Query], list[bytes | FromServer]]) -> Iterator[str]:
    """A ROUTER that answers what it is told to; yields its address."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.set(zmq.LINGER, 0)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    closing = threading.Event()

    def serve() -> None:
        while not closing.is_set():
            if router.poll(20):
                peer, data = router.recv_multipart()
                message = decode_from_client(data)
                if isinstance(message, Query):
                    for said in reply(message):
                        router.send_multipart([peer, said if isinstance(said, bytes) else encode(said)])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        closing.set()
        thread.join(30)
        router.close()
        context.term()


def refused(client: QueryClient, asked: Query | None = None) -> NoAnswerError:
    began = time.monotonic()
    with pytest.raises(NoAnswerError) as raised:
        client.ask(asked or query())
    assert time.monotonic() - began < client.config.deadline_s + TOLERANCE_S
    return raised.value


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_answers_of_a_real_server(run_server: RunServer) -> None:
    server = run_server()
    with QueryClient([server.endpoint], CONFIG) as client:
        for seed in range(3):
            answer = client.ask(query(seed))
            assert {ranked.name for ranked in answer.objects} == set(query().reachable)
    assert (client.stats.asked, client.stats.answered, client.stats.late) == (3, 3, 0)
    assert client.stats.seconds > 0


def test_the_server_is_told_the_deadline(run_server: RunServer, source: SmallSource) -> None:
    """So it says `expired` before this side gives up, and the server is not taken for dead."""
    server = run_server()
    with QueryClient([server.endpoint], CONFIG) as client:
        client.ask(query())
        client.config = QueryClientConfig(deadline_s=1.0)
        error = refused(client, query(IS_SLOW, "sample_goals"))
        assert error.code == "expired"
        source.loaded["goals", "v1"].gate.set()
        client.config = CONFIG
        assert client.ask(query()).objects


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"object_model": "nobody"}, "unknown_model"),
        ({"object_model": "goals"}, "wrong_model"),
        ({"seed": 1001}, "model_failed"),
    ],
)
def test_refusals_have_their_code_and_the_next_query_is_asked(
    run_server: RunServer, changes: dict[str, object], code: str
) -> None:
    with QueryClient([run_server().endpoint], CONFIG) as client:
        assert refused(client, query(**changes)).code == code  # type: ignore[arg-type]
        assert client.ask(query()).objects
    assert client.stats.failures == {code: 1}


def test_bad_queries_are_not_even_sent(nowhere: str) -> None:
    with QueryClient([nowhere], HASTY) as client:
        assert refused(client, query(reachable=("somebody",))).code == "bad_query"
        assert "cannot be encoded" in refused(client, query(robot=(np.float32(0), np.float32(0)))).why
        walls = tuple(Box("😀" * 60 + f"{n:04d}", n * 1e-3, 0, 0, 1, 1) for n in range(1024))
        boxes = tuple(Box("ü" * 60 + f"{n:04d}", n * 1e-3, 0, 0, 1, 1) for n in range(64))
        large = query()
        scene = replace(large.scene, walls=walls, movables=boxes, name="n" * 255)
        large = replace(
            large, scene=scene, poses=((0.0, 0.0, 0.0),) * 64, reachable=tuple(box.name for box in boxes), object=None
        )
        assert "the scene is too big: a query has at most 262144 bytes" in refused(client, large).why


def test_a_dead_server_costs_its_deadline_once_per_back_off(nowhere: str) -> None:
    with QueryClient([nowhere], HASTY) as client:
        assert refused(client).code == "unreachable"
        began = time.monotonic()
        for _ in range(1000):
            assert refused(client).code == "unreachable"
        assert time.monotonic() - began < TOLERANCE_S
    assert client.stats.failures == {"unreachable": 1001}


def test_a_server_that_never_answers_costs_its_deadline_once_per_back_off() -> None:
    heard: list[Query] = []

    def reply(asked: Query) -> list[bytes | FromServer]:
        heard.append(asked)
        return [answer_to(asked)] if len(heard) == 1 else []

    with scripted(reply) as endpoint, QueryClient([endpoint], CONFIG) as client:
        client.ask(query())
        client.config = HASTY
        assert "did not answer within the deadline" in refused(client).why
        assert "will be tried again later" in refused(client).why
    assert len(heard) == 2


def test_the_other_server_is_asked(run_server: RunServer, nowhere: str) -> None:
    with QueryClient([nowhere, run_server().endpoint], QueryClientConfig(deadline_s=4.0, backoff_s=60)) as client:
        assert client.ask(query()).objects
        assert client.ask(query()).objects  # without a try at the first
    assert (client.stats.answered, client.stats.retried) == (2, 1)


def test_a_busy_server_is_left_for_the_other_at_once_and_asked_first_again(run_server: RunServer) -> None:
    busy = [True]

    def reply(asked: Query) -> list[bytes | FromServer]:
        return [Failed(id=asked.id, code="busy", why="full") if busy[0] else answer_to(asked, versions={"me": "1"})]

    with scripted(reply) as first, QueryClient([first, run_server().endpoint], CONFIG) as client:
        assert client.ask(query()).versions == {"objects": "v1", "goals": "v1"}
        busy[0] = False
        assert client.ask(query()).versions == {"me": "1"}


def test_a_late_answer_is_dropped_and_counted_and_never_taken_for_the_next() -> None:
    kept: list[Query] = []

    def reply(asked: Query) -> list[bytes | FromServer]:
        kept.append(asked)
        if len(kept) == 2:
            return []
        return [answer_to(old, versions={"stale": "1"}) for old in kept[1:-1]] + [answer_to(asked)]

    with scripted(reply) as endpoint, QueryClient([endpoint], CONFIG) as client:
        client.ask(query())
        client.config = QueryClientConfig(deadline_s=0.5, backoff_s=0.0)
        assert refused(client).code == "unreachable"
        client.config = CONFIG
        assert client.ask(query()).versions == {"objects": "v1"}
    assert client.stats.late == 1
    assert len({asked.id for asked in kept}) == 3


@pytest.mark.parametrize(
    "say",
    [
        lambda _: b"",
        lambda _: b"\xff" * 100,
        lambda asked: answer_to(asked, objects=(RankedObject("somebody", 1.0),)),
        lambda asked: answer_to(asked, objects=(RankedObject(asked.reachable[0], float("nan")),)),
        lambda asked: answer_to(asked, goals=(PushGoal(asked.reachable[0], float("inf"), 0.0, 0.0, 0.0),)),
        lambda asked: answer_to(asked, objects=()),
        lambda asked: encode(Cancel(id=asked.id)),
    ],
)
def test_bad_answers_are_not_followed(say: Callable[[Query], bytes | FromServer]) -> None:
    with scripted(lambda asked: [say(asked)]) as endpoint, QueryClient([endpoint], CONFIG) as client:
        assert refused(client).code == "bad_answer"


def test_what_is_no_endpoint_is_an_error_at_once() -> None:
    for endpoints in ([], ["nowhere"], ["tcp://127.0.0.1:5556", "tcp://x"]):
        with pytest.raises(ConfigurationError):
            QueryClient(endpoints, QueryClientConfig(wait_s=0))
    with pytest.raises(ConfigurationError, match="key file"):
        QueryClient(["tcp://127.0.0.1:5556"], QueryClientConfig(key=Path("nowhere.key")))


def test_a_server_of_another_version_is_an_error() -> None:
    def reply(asked: Query) -> list[bytes | FromServer]:
        return [Failed(id=asked.id, code="protocol_version", why="version 7 here, 1 there")]

    with (
        scripted(reply) as endpoint,
        QueryClient([endpoint], CONFIG) as client,
        pytest.raises(ConfigurationError, match="version 7 here, 1 there"),
    ):
        client.ask(query(1))


def test_the_server_is_told_that_nobody_waits_any_more(run_server: RunServer, source: SmallSource) -> None:
    server = run_server()
    with QueryClient([server.endpoint], CONFIG) as client:
        client.ask(query())
        client.config = QueryClientConfig(deadline_s=1.0, backoff_s=0.0)
        assert refused(client, query(IS_SLOW, "sample_goals")).code in ("expired", "unreachable")
        source.loaded["goals", "v1"].gate.set()
        wait_until(lambda: metric(server, "unwanted_results_total") == 1, "the result is not wanted")


def test_clients_go_on_while_their_server_is_killed_and_started_again(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/infer"
    config = QueryClientConfig(deadline_s=5.0, backoff_s=0.2)
    with QueryClient([endpoint], config) as client:
        with Process("-m", "tests.inference.server_program", endpoint) as server:
            server.says("READY")
            before = client.ask(query(1))
            server.kill()
            hasty = QueryClientConfig(deadline_s=0.3, backoff_s=0.2)
            client.config = hasty
            assert refused(client).code == "unreachable"
            assert refused(client).code == "unreachable"
        client.config = config
        with Process("-m", "tests.inference.server_program", endpoint) as server:
            server.says("READY")
            answers: list[Answer] = []

            def asked_again() -> bool:
                try:
                    answers.append(client.ask(query(1)))
                except NoAnswerError as error:
                    assert error.code == "unreachable"  # noqa: PT017 -- the only foreseen one
                return bool(answers)

            wait_until(asked_again, "the new server answers")
            assert (answers[0].objects, answers[0].goals) == (before.objects, before.goals)
            assert server.terminate() == 0
            assert "stopped" in server.output


def test_the_key_for_a_sink_is_not_used_for_a_server_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KEY", "/nowhere/sink.key")
    with scripted(lambda asked: [answer_to(asked)]) as endpoint, QueryClient([endpoint], CONFIG) as client:
        assert client.ask(query()).device == "cpu"
