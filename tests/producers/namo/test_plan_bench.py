"""What the planners' bench computes, on rows made by hand and on small sets."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from producers.namo import plan_bench
from producers.namo.options import SearchOptions
from producers.namo.outcome import StopReason
from producers.namo.plan_figures import (
    Pair,
    Row,
    by_depth,
    run_one,
    same_plans,
    solved_per_hour,
    solved_share,
    solved_within,
    tree_vs_idfs,
)
from producers.namo.scenes import GeneratedScenes
from protocol.errors import ConfigurationError

PUSH = ("obstacle_0_movable", (1.0, 2.0, 0.0))
SOLVED = Row(0, StopReason.SOLVED, (PUSH,), expanded=10, primitives=30, deepest=1, cpu_s=2.0)
DEEP = Row(1, StopReason.SOLVED, (PUSH, PUSH), expanded=50, primitives=200, deepest=2, cpu_s=6.0)
SPENT = Row(2, StopReason.PUSH_BUDGET, (), expanded=400, primitives=1000, deepest=3, cpu_s=28.0)
ROWS = [SOLVED, DEEP, SPENT, SPENT]


def test_shares_and_rates() -> None:
    assert solved_share(ROWS) == 0.5
    assert [solved_within(ROWS, n) for n in (29, 30, 200, 5000)] == [0, 0.25, 0.5, 0.5]
    assert solved_per_hour(ROWS) == pytest.approx(2 / 64 * 3600)


def test_expansions_are_compared_where_no_budget_fired() -> None:
    pairs = [Pair(SOLVED, SOLVED), Pair(DEEP, replace(DEEP, expanded=30)), Pair(SPENT, replace(SPENT, expanded=1))]
    assert tree_vs_idfs(pairs) == pytest.approx(40 / 60)
    assert {depth: len(group) for depth, group in by_depth(pairs).items()} == {1: 1, 2: 1}
    assert same_plans(pairs) == 1.0
    assert same_plans([*pairs, Pair(SOLVED, replace(SOLVED, actions=()))]) == pytest.approx(2 / 3)
    assert math.isnan(tree_vs_idfs(pairs[2:]))
    assert math.isnan(same_plans(pairs[2:]))


def test_a_search_does_not_depend_on_the_range_or_the_order() -> None:
    options = SearchOptions(max_pushes=40, algorithm="tree_idfs")
    forward = [run_one(GeneratedScenes("all", "medium", 0), at, options, 0) for at in range(4)]
    source = GeneratedScenes("all", "medium", 0)
    backward = [run_one(source, at, options, 0) for at in (3, 1)]
    assert [replace(row, cpu_s=0.0) for row in backward] == [replace(forward[at], cpu_s=0.0) for at in (3, 1)]
    assert all(row.primitives > 0 for row in forward)


def test_the_bench_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_bench.main(["--scenes", "2", "--max-pushes", "60", "--json", str(tmp_path / "plan.json")]) == 0
    written = json.loads((tmp_path / "plan.json").read_text())
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert figures.keys() == {
        "plan.easy_solved",
        "plan.medium_solved",
        "plan.searches_per_hour",
        "plan.tree_vs_idfs",
        "plan.same_plans",
    }
    assert 0 <= figures["plan.easy_solved"]["value"] <= 1
    assert written["details"]["options"]["max_pushes"] == 60
    assert len(written["details"]["medium"]) == 2
    assert "solved per hour and core" in capsys.readouterr().out


def test_the_bench_refuses_an_empty_set() -> None:
    with pytest.raises(ConfigurationError, match="--scenes of at least 1"):
        plan_bench.main(["--scenes", "0"])
