"""`headrace up` with everything: planners, sink, server, trainers; new weights come into use while it runs."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from deploy.main import main as headrace
from protocol.dataset_view import DatasetView
from protocol.published import version_names
from tests.processes import Process, wait_until

LIMIT_S = 200.0
TOPOLOGY = """
[sink]
data = "{folder}/data"
shard_mib = 16

[inference]
models = "{folder}/models"
flags = {{ threads = 1, device = "cpu" }}

[[trainers]]
what = "object"
nice = 0
flags = {{ publish-every = 0, validation-share = 0.4, threads = 1, device = "cpu" }}

[[trainers]]
what = "goal"
nice = 0
flags = {{ publish-every = 0, validation-share = 0.4, threads = 1, device = "cpu" }}

[[producers]]
simulator = "namo"
workers = 1
asks = true
flags = {{ {scenes}, object-strategy = "ml", ml-object-model = "object", goal-strategy = "ml", ml-goal-model = "goal" }}
"""
SCENES = 'template = "two_rooms", difficulty = "easy", end-idx = 100000, algorithm = "tree_idfs", max-pushes = 40'


def versions(data: Path) -> Counter[tuple[str, str]]:
    """How many searches heard from which version of which model."""
    found: Counter[tuple[str, str]] = Counter()
    if data.exists():
        with DatasetView(data) as view:
            for episode in view.new_episodes():
                found.update(episode.attributes()["ml"]["versions"].items())
    return found


def test_searches_teach_the_models_that_lead_later_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, topology = tmp_path / "data", tmp_path / "flywheel.toml"
    topology.write_text(TOPOLOGY.format(folder=tmp_path, scenes=SCENES))

    def learned() -> bool:
        assert process.child.poll() is None, process.output
        numbers = {(name, version.split("-")[0] > "000001") for name, version in versions(data)}
        return {("object", False), ("object", True), ("goal", False), ("goal", True)} <= numbers

    with Process("-m", "deploy.main", "up", topology) as process:
        wait_until(learned, "searches heard from trained models", LIMIT_S)
        process.child.send_signal(signal.SIGINT)
        process.child.wait(100)
    assert process.child.returncode == 130, process.output
    assert "every acknowledged episode is in" in process.output
    assert "train-object: object: " in process.output
    for what in ("object", "goal"):
        assert len(version_names(tmp_path / "models", what)) >= 2
        assert (data / "logs" / f"train-{what}" / "loss.png").exists()
    assert headrace(["verify", str(data)]) == 0
    capsys.readouterr()
    assert headrace(["inspect", str(data), "--by-model-version", str(tmp_path / "v.png")]) == 0
    assert "goal 1, object 1: " in capsys.readouterr().out
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
