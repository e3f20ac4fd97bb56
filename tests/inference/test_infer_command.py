"""`headrace infer` with real weights: what it says, how it is asked, and how it ends."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path

import pytest

from inference.warm_up import example_queries
from producers.query_client import NoAnswerError, QueryClient, QueryClientConfig
from protocol.published import CURRENT, VERSIONS, WEIGHTS, current_version
from tests.processes import Process, wait_until
from trainer.models import main as models_command
from trainer.namo.architectures import ARCHITECTURES
from trainer.publish import publish, untrained
from trainer.version_files import rollback

CONFIG = QueryClientConfig(deadline_s=20.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Untrained models with one version each."""
    assert models_command(["init", "--models", str(tmp_path / "models")]) == 0
    return tmp_path / "models"


def infer(models: Path, *flags: str) -> Process:
    words = ("--models", models, "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--device", "cpu")
    return Process("-m", "inference", *words, *flags)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_real_models_answer_and_a_signal_ends_it_cleanly(models: Path, number: signal.Signals) -> None:
    with infer(models) as server:
        endpoint, http = server.says(r"READY: planners at (\S+), http (\S+), device cpu").groups()
        with QueryClient([endpoint], CONFIG) as client:
            for asked in example_queries(3):
                answer = client.ask(asked)
                assert {ranked.name for ranked in answer.objects} == set(asked.reachable)
                assert 0 < len(answer.goals) <= asked.goals
                assert answer.versions == {name: current_version(models, name) for name in ("object", "goal")}
                assert answer.timing.draw_s > 0
        with urllib.request.urlopen(f"http://{http}/healthz", timeout=10) as page:
            assert page.read() == b"ok\n"
        server.child.send_signal(number)
        assert server.wait() == 0
        assert "stopped" in server.output


def test_half_written_weights_and_a_rollback_while_it_serves(models: Path) -> None:
    first = current_version(models, "goal")
    with infer(models) as server, server_client(server) as client:
        asked = example_queries(1)[0]
        before = client.ask(asked)
        second = publish(untrained(ARCHITECTURES["GoalModel"], 5), "goal", models).manifest.version
        wait_until(lambda: client.ask(asked).versions["goal"] == second, "the new weights are served")
        assert client.ask(asked).goals != before.goals
        # A third one that is cut off in the middle, as a copy by hand might be.
        broken = models / "goal" / VERSIONS / "third"
        broken.mkdir()
        for path in (models / "goal" / VERSIONS / second).iterdir():
            data = path.read_bytes()
            (broken / path.name).write_bytes(data[: len(data) // 2] if path.name == WEIGHTS else data)
        manifest = json.loads((broken / "manifest.json").read_bytes())
        (broken / "manifest.json").write_text(json.dumps({**manifest, "version": "third"}))
        (models / "goal" / CURRENT).write_text("third\n")
        server.says(r"model goal: version \S+ is served on: .*expected \d+ bytes, found \d+")
        assert client.ask(asked).versions["goal"] == second
        rollback(models, "goal", first)
        wait_until(lambda: client.ask(asked).versions["goal"] == first, "the first weights are served again")
        assert client.ask(asked).goals == before.goals


def server_client(server: Process) -> QueryClient:
    """A client of the server, which is ready then."""
    return QueryClient([server.says(r"READY: planners at (\S+),")[1]], CONFIG)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--bind", "tcp://0.0.0.0:5556"), "can be reached from other machines"),
        (("--max-batch", "0"), "must be at least 1"),
        (("--models", "/nowhere/at/all"), "cannot list models"),
    ],
)
def test_what_cannot_be_served_is_one_clear_error(models: Path, flags: tuple[str, ...], why: str) -> None:
    with infer(models, *flags) as server:
        assert server.wait() == 1
        assert why in server.output
        assert "Traceback" not in server.output


def test_a_server_that_is_gone_is_a_typed_error(models: Path) -> None:
    with infer(models) as server, server_client(server) as client:
        client.ask(example_queries(1)[0])
        server.kill()
        client.config = QueryClientConfig(deadline_s=0.3)
        with pytest.raises(NoAnswerError, match="unreachable"):
            client.ask(example_queries(1)[0])
