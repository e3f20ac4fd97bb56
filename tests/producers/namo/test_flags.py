"""`headrace produce namo`: every flag that cannot be meant gets one sentence, before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tyro

from producers.__main__ import main
from producers.namo.flags import NamoOptions, check
from producers.namo.sources import collection_goal
from protocol.errors import ConfigurationError, HeadraceError
from protocol.messages import Goal
from protocol.namo.scene import MAX_MOVABLES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start-idx", "-1"], "--start-idx -1: expected at least 0"),
        (["--start-idx", "4", "--end-idx", "4"], "--end-idx 4 must be above --start-idx 4"),
        (["--seed", "-1"], "--seed -1"),
        (["--workers", "0"], "--workers 0: expected at least 1"),
        (["--episodes-per-env", "0"], "--episodes-per-env 0"),
        (["--max-depth", "0"], "--max-depth 0"),
        (["--max-depth", "65"], "--max-depth 65: expected at most 64"),
        (["--max-goals-per-object", "0"], "--max-goals-per-object 0"),
        (["--max-terminal-checks", "0"], "--max-terminal-checks 0"),
        (["--max-pushes", "0"], "--max-pushes 0"),
        (["--search-timeout", "0"], "--search-timeout 0: expected more than 0 seconds"),
        (["--epsilon", "1.5"], "--epsilon 1.5: expected 0 to 1"),
        (["--max-movables", str(MAX_MOVABLES + 1)], f"expected at most {MAX_MOVABLES}"),
        (["--ml-samples", "0"], "--ml-samples 0"),
        (["--ml-deadline", "0"], "--ml-deadline 0"),
        (["--jpeg-quality", "0"], "--jpeg-quality 0"),
        (["--object-strategy", "ml"], "--object-strategy ml needs --ml-object-model NAME"),
        (["--goal-strategy", "ml"], "--goal-strategy ml needs --ml-goal-model NAME"),
        (["--goal-strategy", "ml", "--ml-goal-model", "g"], "give --inference tcp://HOST:5556"),
        (["--xml-dir", "/nowhere/at/all"], "/nowhere/at/all: expected a directory of scenes, found nothing"),
        (["--key", "/nowhere.key"], "/nowhere.key is no key file"),
    ],
)
def test_a_wrong_flag_is_said_in_one_sentence(words: list[str], said: str) -> None:
    with pytest.raises(HeadraceError) as caught:
        main(["namo", "--plain", *words])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["--algorithm", "astar"], ["--object-strategy", "best"], ["--physics", "2d"]])
def test_a_choice_that_there_is_not_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["namo", *words])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("changes", "goal"),
    [
        ({}, Goal(0, 100, None)),
        ({"start_idx": 7}, Goal(7, 107, None)),
        ({"start_idx": 10, "end_idx": 20}, Goal(10, 20, None)),
        ({"start_idx": 10, "end_idx": 20, "episodes_per_env": 3}, Goal(30, 60, None)),
    ],
)
def test_indices_are_environments_times_episodes(changes: dict[str, Any], goal: Goal) -> None:
    options = NamoOptions(**changes)
    check(options)
    assert collection_goal(options) == goal


@pytest.mark.parametrize(("changes", "there"), [({}, 3), ({"start_idx": 1, "end_idx": 3}, 3)])
def test_a_directory_says_how_many_environments_there_are(tmp_path: Path, changes: dict[str, Any], there: int) -> None:
    for number in range(there):
        (tmp_path / f"{number}.xml").write_text("whatever")
    start = changes.get("start_idx", 0)
    assert collection_goal(NamoOptions(xml_dir=tmp_path, **changes)) == Goal(start, there, None)


@pytest.mark.parametrize(
    ("changes", "said"), [({"end_idx": 4}, "--end-idx 4"), ({"start_idx": 3}, "--start-idx 3")]
)  # fmt: skip
def test_environments_that_there_are_not_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}.xml").write_text("whatever")
    with pytest.raises(ConfigurationError, match=said) as caught:
        collection_goal(NamoOptions(xml_dir=tmp_path, **changes))
    assert "has 3 environments" in str(caught.value)


def test_several_inference_servers_may_be_named() -> None:
    flags = tyro.cli(NamoOptions, args=["--inference", "tcp://a:1", "--inference", "tcp://b:2"])
    assert flags.inference == ("tcp://a:1", "tcp://b:2")
    assert tyro.cli(NamoOptions, args=[]).inference == ()


def test_what_gives_an_index_another_meaning_gives_the_stream_another_name(tmp_path: Path) -> None:
    several = [
        NamoOptions(),
        NamoOptions(seed=1),
        NamoOptions(episodes_per_env=2),
        NamoOptions(difficulty="hard"),
        NamoOptions(template="maze"),
        NamoOptions(xml_dir=tmp_path / "aug 9!"),
    ]
    names = [options.stream_name for options in several]
    assert len(set(names)) == len(names)
    assert names[0] == "namo/all_medium"
    assert names[-1] == "namo/aug_9"
    assert NamoOptions(stream="mine").stream_name == "mine"
