"""`headrace produce`: every wrong flag gets one clear sentence, and needs no sink to get it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def produce(*words: str) -> tuple[int, str]:
    """Exit status and stderr of `headrace produce robosuite WORDS`."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.main", "produce", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["robosuite", "--camera-names", "sideview"], ["'sideview'", "agentview", "robot0_eye_in_hand"]),
        (["robosuite", "--control-freq", "30"], ["30 Hz", "25 Hz or 50 Hz"]),
    ],
)
def test_what_the_task_lacks_is_said_with_what_it_has(words: list[str], expected: list[str]) -> None:
    status, said = produce(*words, "--workers", "1", "--plain")
    assert status == 1
    for text in expected:
        assert text in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["isaac"], "expected a simulator, one of robosuite"),
        ([], "expected a simulator"),
        (["robosuite", "--workers", "0"], "--workers 0: expected at least 1"),
        (["robosuite", "--episodes", "0"], "--episodes 0"),
        (["robosuite", "--start-idx", "5", "--end-idx", "5"], "--end-idx 5 must be above --start-idx 5"),
        (["robosuite", "--jpeg-quality", "101"], "--jpeg-quality 101: expected 1 to 100"),
        (["robosuite", "--key", "/nowhere.key"], "/nowhere.key is no key file"),
        (["robosuite", "--sink", "nowhere"], "expected tcp://HOST:PORT or the path of an announcement, found"),
    ],
)
def test_wrong_flags(words: list[str], expected: str) -> None:
    status, said = produce(*words, *(["--plain"] if words[:1] == ["robosuite"] else []))
    assert status == 1
    assert expected in said
    # On a busy machine the workers start slowly, and lines of progress come first.
    lines = [line for line in said.strip().splitlines() if not line.startswith("robosuite/")]
    assert len(lines) <= 3, said
    assert "Traceback" not in said


def test_unknown_task_lists_the_tasks() -> None:
    status, said = produce("robosuite", "--env", "Stack")
    assert status == 2
    for task in ("PickPlaceCan", "PickPlaceMilk", "PickPlaceBread", "PickPlaceCereal", "Lift"):
        assert task in said
