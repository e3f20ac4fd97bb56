"""`headrace bench loop`: what it makes of searches, and which flags it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench import loop_report
from deploy.bench.loop import main
from protocol.errors import ConfigurationError, ModelError
from protocol.namo.results import SearchResult, Summary, solved_within


def results(strategy: str, pushes: list[int | None], version: str = "") -> list[SearchResult]:
    """None: not solved within 100 pushes."""
    versions = (("object", version),) if version else ()
    return [
        SearchResult(number, "hard", strategy, count is not None, 100 if count is None else count, 0.5, versions, 0)
        for number, count in enumerate(pushes)
    ]


FOUND = {
    ("hard", "no_heuristic"): results("no_heuristic", [40, 60, 80, None]),
    ("hard", "blocking_path"): results("blocking_path", [10, 30, 50, None]),
    ("hard", "ml"): results("ml", [5, 10, 30, 40], "000002-aa"),
    ("easy", "no_heuristic"): results("no_heuristic", [None, None, None]),
    ("easy", "ml"): results("ml", [1, 2, 3], "000002-aa"),
}


def test_what_is_not_solved_counts_as_endless() -> None:
    summary = Summary.of(FOUND["hard", "no_heuristic"])
    assert (summary.searches, summary.solved, summary.median_pushes) == (4, 0.75, 70)
    assert summary.solved_low < 0.75 < summary.solved_high
    assert solved_within(FOUND["hard", "no_heuristic"], 60) == 0.5
    assert Summary.of(FOUND["easy", "no_heuristic"]).median_pushes == float("inf")


def test_the_ratio_is_to_the_best_heuristic_and_missing_where_it_cannot_be_told() -> None:
    (hard,) = loop_report.figures(FOUND)
    assert (hard.name, hard.value, hard.holds) == ("loop.push_ratio_hard", 20 / 40, True)
    slower = {**FOUND, ("hard", "ml"): results("ml", [30, 30, 30])}
    assert loop_report.figures(slower)[0].holds is False


def test_report_and_plot(tmp_path: Path) -> None:
    rows = json.loads(json.dumps(loop_report.details(FOUND), allow_nan=False))["unseen"]
    assert rows[3]["median_pushes"] is None
    assert rows[2]["solved_within_pushes"]["10"] == 0.5
    assert loop_report.level_table(FOUND).row_count == 5
    assert loop_report.plot(FOUND, tmp_path / "loop.png").read_bytes().startswith(b"\x89PNG")


def test_answers_of_other_weights_than_the_trained_ones_are_an_error() -> None:
    loop_report.check_versions(FOUND, {"object": {"version": "000002-aa"}})
    with pytest.raises(ModelError, match="expected answers of object 000003-bb, found 000002-aa"):
        loop_report.check_versions(FOUND, {"object": {"version": "000003-bb"}})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--searches", "0", "1", "1"], "--searches 0 1 1: expected a number, at least 1, for each of"),
        (["--searches", "9"], "--searches 9: expected a number, at least 1, for each of --levels easy medium hard"),
        (["--levels", "easy", "easy"], "--levels: expected at least one, each once, found easy easy"),
        (["--seed", "-1"], "--seed -1"),
    ],
)
def test_flags_that_cannot_be_meant(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        main(words)


def test_a_work_directory_of_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"max_pushes": 5}')
    with pytest.raises(ConfigurationError, match=r"found \{'max_pushes': 5\}"):
        main(["--work", str(tmp_path)])
