"""An inference server with keys: who is let in, who is not, and what a planner is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from inference.server import Server
from producers.query_client import NoAnswerError, QueryClient, QueryClientConfig
from protocol.announcement import read_announcement
from protocol.errors import ConfigurationError
from protocol.keys import read_client_key
from protocol.namo.queries import Answer
from serving.announce import Announce
from tests.inference.conftest import RunServer, metric
from tests.inference.scenes import query
from tests.processes import wait_until
from tests.security.key_ring import KeyRing

DEADLINE_S = 5.0
BACKOFF_S = 0.1


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def server(run_server: RunServer, keys: KeyRing) -> Server:
    return run_server(keys=keys.path)


def client(endpoint: str | Path, key: Path | None, deadline_s: float = DEADLINE_S) -> QueryClient:
    return QueryClient([str(endpoint)], QueryClientConfig(deadline_s=deadline_s, backoff_s=BACKOFF_S, key=key))


def answers(asker: QueryClient) -> bool:
    try:
        return isinstance(asker.ask(query(1)), Answer)
    except NoAnswerError:
        return False


def told(asker: QueryClient, text: str) -> None:
    """It has no answer, and hears why; the first tries may find no connection only."""
    reasons: list[str] = []

    def hears() -> bool:
        try:
            asker.ask(query(1))
        except NoAnswerError as error:
            reasons.append(error.why)
            return text in error.why
        reasons.append("answered")
        return False

    try:
        wait_until(hears, text)
    except AssertionError as error:
        raise AssertionError(reasons) from error


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://0.0.0.0:0", "ipc://{tmp}/socket"])
def test_an_allowed_planner_is_answered_on_every_kind_of_endpoint(
    run_server: RunServer, keys: KeyRing, tmp_path: Path, bind: str
) -> None:
    server = run_server(bind=bind.format(tmp=tmp_path), keys=keys.path)
    with client(server.endpoint.replace("0.0.0.0", "127.0.0.1"), keys.client()) as asker:
        wait_until(lambda: answers(asker), "an answer")


def test_a_key_that_is_not_allowed_is_told_so_until_it_is(server: Server, keys: KeyRing) -> None:
    path = keys.client("stranger", allow=False)
    with client(server.endpoint, path, 0.5) as outside, client(server.endpoint, keys.client("lab")) as inside:
        told(outside, "the inference server at")
        told(outside, "does not allow our key 'stranger'. On its side: headrace keys allow KEYS stranger")
        assert answers(inside)
        assert metric(server, "rejected_total", reason="unknown_key") >= 1
        keys.allow(read_client_key(path))
        wait_until(lambda: answers(outside), "it is let in")


def test_without_a_key_or_with_that_of_another_server_nobody_comes_in(server: Server, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other").client("lab")
    with client(server.endpoint, None, 0.3) as bare, client(server.endpoint, other, 0.3) as wrong:
        told(bare, "wants a key, and we have none")
        told(wrong, "Its public key may not be the one in our key file")
    assert metric(server, "queries_total", outcome="answered") == 0


def test_a_key_for_a_server_without_keys(run_server: RunServer, keys: KeyRing) -> None:
    """It would be answered by anyone at that address, and in clear: so it is not asked."""
    server = run_server()
    with client(server.endpoint, keys.client(), 0.3) as asker:
        told(asker, "the inference server at")  # which of two reasons depends on who sees first that they do not match
    assert metric(server, "queries_total", outcome="answered") == 0


def test_a_key_that_is_revoked_is_let_in_no_more(server: Server, keys: KeyRing) -> None:
    with (
        client(server.endpoint, keys.client("good")) as good,
        client(server.endpoint, keys.client("bad"), 0.5) as bad,
    ):
        wait_until(lambda: answers(bad), "an answer")
        keys.revoke("bad")
        told(bad, "does not allow our key 'bad'")
        assert answers(good)
    assert metric(server, "connections_cut_total", reason="revoked") >= 1


# --- announced --------------------------------------------------------------------------------------------------------


def test_a_server_that_moves_is_found(run_server: RunServer, keys: KeyRing, tmp_path: Path) -> None:
    file = tmp_path / "infer.json"
    announce = Announce(file, "127.0.0.1")
    first = run_server(keys=keys.path, bind="tcp://0.0.0.0:0", announce=announce)
    wait_until(file.exists, "it is announced")
    with client(file, keys.client(), 1.0) as asker:
        wait_until(lambda: answers(asker), "an answer")
        before = read_announcement(file)
        first.stop()
        wait_until(lambda: read_announcement(file).stopped, "its end is written")
        with pytest.raises(NoAnswerError):
            asker.ask(query(1))
        time.sleep(BACKOFF_S)
        with pytest.raises(NoAnswerError, match="the inference server of generation 1 stopped at"):
            asker.ask(query(1))
        run_server(keys=keys.path, bind="tcp://0.0.0.0:0", announce=announce)
        wait_until(lambda: answers(asker), "it is found")
        after = read_announcement(file)
    assert before.endpoint != after.endpoint
    assert (after.role, after.generation, after.public_key) == ("inference", 2, keys.sink.public)


def test_a_server_with_other_keys_is_an_error(run_server: RunServer, keys: KeyRing, tmp_path: Path) -> None:
    file = tmp_path / "infer.json"
    run_server(keys=KeyRing(tmp_path / "others").path, announce=Announce(file))
    wait_until(file.exists, "it is announced")
    with pytest.raises(ConfigurationError, match="nothing is sent there"):
        client(file, keys.client())
    with pytest.raises(ConfigurationError, match="wants a key, and we have none"):
        client(file, None)
