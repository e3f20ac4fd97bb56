"""`headrace bench plan` on a small run: every figure is there, in the form that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench.figures import Figure
from deploy.bench.plan import search_figures
from deploy.main import main as headrace
from deploy.processes import ProgramError

FIGURES = {
    "plan.push_ms_planar": (10, "ms"),
    "plan.push_ms_free": (50, "ms"),
    "plan.easy_solved": (0.95, ""),
    "plan.medium_solved": (0.85, ""),
    "plan.searches_per_hour": (None, "/h"),
    "plan.tree_vs_idfs": (0.5, ""),
}


def test_a_small_run_has_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    sizes = ("--scenes", "2", "--max-pushes", "200", "--pushes", "4", "--rounds", "2")
    assert headrace(["bench", "plan", *sizes, "--json", str(out)]) in (0, 1)
    document = json.loads(out.read_text())
    assert {row["name"]: (row["bar"], row["unit"]) for row in document["figures"]} == FIGURES
    assert all(row["value"] > 0 for row in document["figures"])
    assert [len(row["runs"]) for row in document["figures"]] == [2, 2, 0, 0, 0, 0]
    assert document["machine"]["cores"] >= 1
    said = capsys.readouterr().out
    assert "the original's took 1.43 s (mean 47.6 s)" in said
    assert all(name in said for name in FIGURES)


def test_a_figure_that_was_not_measured_is_said() -> None:
    names = ("easy_solved", "medium_solved", "searches_per_hour")
    figures = [{"name": f"plan.{name}", "value": 0.9} for name in names]
    with pytest.raises(ProgramError, match="tree_vs_idfs could not be measured"):
        search_figures({"figures": [*figures, {"name": "plan.tree_vs_idfs", "value": None}]})


@pytest.mark.parametrize(("value", "holds"), [(0.84, False), (0.85, True), (0.92, True), (0.93, False)])
def test_a_bar_may_have_two_sides(value: float, holds: bool) -> None:
    assert Figure("f", value, "", 0.85, most=0.92).holds is holds


@pytest.mark.parametrize("flag", ["--scenes", "--max-pushes", "--pushes", "--rounds"])
def test_wrong_flags(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert headrace(["bench", "plan", flag, "0"]) == 1
    assert f"{flag} 0: expected at least 1" in capsys.readouterr().err
