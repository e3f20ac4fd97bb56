"""`headrace bench page`, small: a real sink, real producers, a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench import main as bench
from deploy.bench.browser import find_chromium
from protocol.errors import ConfigurationError


def test_the_cost_comes_from_runs_taken_in_turns(tmp_path: Path) -> None:
    try:
        find_chromium()
    except ConfigurationError as error:
        pytest.skip(str(error))
    written = tmp_path / "figures.json"
    words = ["--rounds", "1", "--gigabytes", "0.01", "--steps", "10", "--out", str(tmp_path / "disk")]
    status = bench.main(["page", *words, "--json", str(written)])
    found = {figure["name"]: figure for figure in json.loads(written.read_text())["figures"]}
    assert set(found) == {"page.cost", "page.ingest_mb_per_s"}
    assert found["page.cost"]["bar"] == 0.02
    assert status == (0 if found["page.cost"]["holds"] else 1)
    assert found["page.ingest_mb_per_s"]["value"] > 0
    assert not list((tmp_path / "disk").iterdir()), "the bench leaves its data behind"


def test_without_chromium_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="apt-get install chromium"):
        bench.main(["page"])
