"""NAMO planners that ask an inference server, which is killed in the middle: the collection ends all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.dataset_view import DatasetView
from protocol.namo.episodes import attempts_of
from tests.processes import Process, SinkProcess, wait_until

ENVIRONMENTS = 8
LIMIT_S = 120.0
FLAGS = (
    "--end-idx", str(ENVIRONMENTS), "--difficulty", "easy", "--max-pushes", "40", "--search-timeout", "900",
    "--object-strategy", "ml", "--ml-object-model", "objects", "--goal-strategy", "ml", "--ml-goal-model", "goals",
    "--plain",
)  # fmt: skip


def attributes(data: Path) -> dict[int, dict[str, Any]]:
    if not data.exists():
        return {}
    with DatasetView(data) as view:
        return {episode.index: episode.attributes() for episode in view.new_episodes()}


def model_server(endpoint: str) -> Process:
    server = Process("-m", "tests.inference.server_program", endpoint)
    server.says("READY")
    return server


def produce(sink: str, server: str, *words: str) -> Process:
    flags = ("--sink", sink, "--inference", server, *FLAGS, *words)
    return Process("-m", "deploy.main", "produce", "namo", *flags)


def finished(producers: Process) -> bool:
    return producers.child.poll() is not None


def test_a_collection_goes_on_without_its_models_and_counts_it(tmp_path: Path) -> None:
    data, endpoint = tmp_path / "data", f"ipc://{tmp_path}/models"
    with SinkProcess(data).ready() as sink, model_server(endpoint) as server:
        with produce(sink.endpoint, endpoint, "--workers", "1", "--ml-deadline", "3") as producers:
            wait_until(lambda: attributes(data) or finished(producers), "the first search", LIMIT_S)
            server.kill()
            wait_until(lambda: finished(producers), "the collection ends", LIMIT_S)
            assert producers.wait() == 0, producers.output
        assert sink.terminate() == 0
    found = attributes(data)
    assert sorted(found) == list(range(ENVIRONMENTS))
    answered = [each["ml"] for each in found.values() if each["ml"]["answered"]]
    alone = [each for each in found.values() if each["ml"]["fallbacks"]]
    assert answered, "no search heard from the models"
    assert answered[0]["versions"] == {"objects": "v1", "goals": "v1"}
    assert alone, "no search went on without them"
    assert len(attempts_of(alone[-1])) > 0
    assert alone[-1]["options"]["ml_object_model"] == "objects"


def test_models_on_another_device_than_was_asked_for_end_the_collection(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/models"
    with SinkProcess(tmp_path / "data").ready() as sink, model_server(endpoint):
        with produce(sink.endpoint, endpoint, "--workers", "1", "--ml-device", "cuda") as producers:
            wait_until(lambda: finished(producers), "the command gives up", LIMIT_S)
            assert producers.wait() == 1
            assert "--ml-device cuda: the inference server runs its models on cpu" in producers.output
        assert sink.terminate() == 0
    assert attributes(tmp_path / "data") == {}
