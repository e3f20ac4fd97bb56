"""`headrace export namo`: the original's filter rule, and what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from protocol.spec import StreamSpec
from sink.export.namo_records import keep_minimum_length
from sink.flagging import Word, add_flag
from tests.datasets import Recorded, write_dataset

SPEC = StreamSpec("namo/test", rate_hz=1, max_steps=8)
FAIL, TRIVIAL = None, 0


def records(plans: Sequence[int | None]) -> list[dict[str, Any]]:
    """Of searches with so many pushes; None: not solved."""
    return [
        {
            "number": number,
            "solution_found": length is not None,
            "action_sequence": [{"object_id": "o", "target": (0, 0, 0)}] * length if length else None,
        }
        for number, length in enumerate(plans)
    ]


@pytest.mark.parametrize(
    ("plans", "kept"),
    [
        ([FAIL, 1, 2, 2, TRIVIAL], [0, 1]),
        ([TRIVIAL, TRIVIAL], [0, 1]),
        ([FAIL, FAIL], [0, 1]),
        ([FAIL, TRIVIAL], [0, 1]),
        ([2, 3, 2, FAIL], [0, 2, 3]),
        ([3], [0]),
        ([], []),
    ],
)
def test_the_rule_of_the_original(plans: Sequence[int | None], kept: list[int]) -> None:
    assert [each["number"] for each in keep_minimum_length(records(plans))] == kept


def search(index: int, plan: int | None, asked: bool = False) -> Recorded:
    """A stored search without scene; two in each environment."""
    record = {
        "episode_id": "", "success": True, "solution_found": plan is not None, "search_time_ms": 1000.0,
        "nodes_expanded": 4, "robot_goal": None,
        "action_sequence": [{"object_id": "o", "target": [1, 2, 3]}] * plan if plan else None,
    }  # fmt: skip
    attributes = {
        "environment": index // 2, "episode": index % 2, "record": record, "scene": None,
        "failure_name": "timeout" if plan is None else "none",
        "options": {"algorithm": "idfs", "filter_minimum_length": asked},
    }  # fmt: skip
    return Recorded(index, 0, Outcome.VOID, attributes)


def export(data: Path, out: Path, *words: str) -> int:
    return headrace(["export", "namo", "--data", str(data), "--out", str(out), "--hostname", "h", *words])


def lengths(out: Path, environment: int) -> list[int]:
    results = pickle.loads((out / "sequential_data_h" / f"h_env_{environment:06d}_results.pkl").read_bytes())  # noqa: S301
    assert results["episodes_before_filtering"] == 2
    assert results["episodes_collected"] == len(results["episode_results"])
    assert results["episodes_filtered_out"] == 2 - results["episodes_collected"]
    return [len(each["action_sequence"] or ()) for each in results["episode_results"]]


@pytest.mark.parametrize(
    ("asked", "words", "kept"),
    [
        (False, (), [1, 2]),
        (True, (), [1]),
        (False, ("--filter-minimum-length",), [1]),
        (True, ("--keep-all",), [1, 2]),
    ],
)
def test_the_filter_is_used_as_asked_here_or_at_the_collection(
    tmp_path: Path, asked: bool, words: tuple[str, ...], kept: list[int]
) -> None:
    plans = (1, 2, None, 3)
    write_dataset(tmp_path / "data", [search(n, plan, asked) for n, plan in enumerate(plans)], SPEC)
    assert export(tmp_path / "data", tmp_path / "out", *words) == 0
    assert lengths(tmp_path / "out", 0) == kept
    assert lengths(tmp_path / "out", 1) == [0, 3]
    text = (tmp_path / "out" / "sequential_data_h" / "summary_h.txt").read_text()
    assert f"Filtering enabled: {kept == [1]}" in text
    assert "timeout: 1 episodes" in text


def test_discarded_searches_are_left_out_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    write_dataset(data, [search(n, plan) for n, plan in enumerate((1, 2, None, 3))], SPEC)
    add_flag(data, SPEC.name, Word("discard", [2, 3], "not real"))
    assert export(data, tmp_path / "out") == 0
    assert "1 environments, 2 of 2 searches" in capsys.readouterr().out
    assert lengths(tmp_path / "out", 0) == [1, 2]
    assert export(data, tmp_path / "out", "--include-discarded", "--overwrite") == 0
    assert lengths(tmp_path / "out", 1) == [0, 3]
    add_flag(data, SPEC.name, Word("discard", [0, 1], "not real"))
    assert export(data, tmp_path / "out", "--overwrite") == 1
    assert "or all are discarded" in capsys.readouterr().err


def test_a_folder_that_is_there_is_replaced_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_dataset(data, [search(n, 1) for n in range(4)], SPEC)
    assert export(data, out) == 0
    mark = out / "sequential_data_h" / "mine.txt"
    mark.write_text("mine")
    assert export(data, out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert mark.exists()
    assert export(data, out, "--overwrite") == 0
    assert not mark.exists()
    assert [path.name for path in out.iterdir()] == ["sequential_data_h"]


def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_dataset(data, [Recorded(0, 0, Outcome.VOID)], SPEC)
    assert export(data, out) == 1
    assert "no search of `produce namo`" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    write_dataset(tmp_path / "robots", [Recorded(0)])
    assert export(tmp_path / "robots", out) == 1
    assert "it has: test/count" in capsys.readouterr().err
    assert export(data, out, "--stream", "namo/other") == 1
    assert "no stream 'namo/other'" in capsys.readouterr().err
    assert export(tmp_path / "nowhere", out) == 1
    assert "is no directory" in capsys.readouterr().err
    assert headrace(["export", "nama"]) == 1
    assert "did you mean namo?" in capsys.readouterr().err
