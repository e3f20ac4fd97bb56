"""`headrace bench export` on a few small frames; LeRobot's own writer is measured where there is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.main import main as headrace

COUNTS = ("--rounds", "1", "--episodes", "1", "--steps", "4", "--workers", "1")
SMALL = (*COUNTS, "--size", "48", "64", "--frame-bytes", "1500")


def test_without_lerobot_its_figure_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # On a few frames, starting outweighs writing, so the bar of the first figure says nothing.
    assert headrace(["bench", "export", *SMALL, "--json", str(tmp_path / "bench.json")]) in (0, 1)
    assert "export.lerobot_vs_lerobot is left out: say with --lerobot-python" in capsys.readouterr().out
    report = json.loads((tmp_path / "bench.json").read_text())
    names = [figure["name"] for figure in report["figures"]]
    assert names == [
        "export.act_vs_disk",
        "export.act_mb_per_s",
        "export.plain_mb_per_s",
        "export.lerobot_frames_per_s",
    ]
    assert all(figure["value"] > 0 for figure in report["figures"])


def test_a_python_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert headrace(["bench", "export", "--lerobot-python", str(tmp_path / "python")]) == 1
    assert "expected a Python interpreter there" in capsys.readouterr().err
