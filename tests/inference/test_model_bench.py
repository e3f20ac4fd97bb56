"""The bench of the models, on a short run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.model_bench import Speed, best, main
from inference.namo_models import BUCKETS
from trainer import models as commands


def test_figures_of_every_model_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["init", "--models", str(tmp_path / "models")]) == 0
    file = tmp_path / "speeds.json"
    assert main(["--models", str(tmp_path / "models"), "--seconds", "0.01", "--json", str(file)]) == 0
    speeds = [Speed(**row) for row in json.loads(file.read_text())]
    assert [(speed.model, speed.batch) for speed in speeds] == [
        (name, size) for name in ("goal", "object") for size in (1, *BUCKETS)
    ]
    assert all(0 < speed.ms <= speed.p99_ms and speed.per_s > 0 for speed in speeds)
    assert best(speeds).per_s == max(speed.per_s for speed in speeds)
    assert "queries/s" in capsys.readouterr().out
