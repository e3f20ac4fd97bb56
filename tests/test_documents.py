"""Every command that README and docs show is understood as it is written: each flag exists, each value fits it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro
from PIL import Image

from deploy import main as headrace
from protocol.messages import Outcome
from tests.datasets import SPEC, Recorded, write_dataset

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


class _UnderstoodError(Exception):
    """The command line was parsed; what it would do is not done here."""


def commands(page: Path) -> list[str]:
    """Each `headrace` line in the page's shell blocks, without its comment."""
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    lines = blocks.replace("\\\n", " ").splitlines()
    # A mark for the shell is not the command's.
    return [re.sub(r" &( +#.*)?$", "", line) for line in lines if line.startswith("headrace ")]


def mentions(page: Path) -> list[str]:
    """Each command with flags in a sentence, unless it has the marks of what is left out or can be chosen."""
    rest = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    said = [" ".join(found.split()) for found in re.findall(r"`(headrace [^`]* --[^`]*)`", rest)]
    return sorted({line for line in said if not re.search("[…|]", line)})


COMMANDS = [pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in commands(page)]
MENTIONS = [pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in mentions(page)]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40
    assert len(MENTIONS) > 20
    assert {page.name for page in PAGES} >= {"README.md", "act.md", "replay.md", "results.md", "slurm.md"}


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What `headrace` says to a command line that it does not understand; empty if it does. Nothing is done."""
    real: Callable[..., Any] = tyro.cli

    def parse_only(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        raise _UnderstoodError

    def look(line: str) -> str:
        monkeypatch.setattr(tyro, "cli", parse_only)
        try:
            status = headrace.main(shlex.split(line, comments=True)[1:])
        except _UnderstoodError:
            return ""
        except SystemExit as error:
            status = int(str(error.code))
        return f"{line}: status {status}\n{capsys.readouterr().err}"

    return look


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line: str, refusal: Callable[[str], str]) -> None:
    assert not refusal(line)


@pytest.mark.parametrize("line", MENTIONS)
def test_a_mentioned_flag_exists(line: str, refusal: Callable[[str], str]) -> None:
    said = refusal(line)
    # What a sentence leaves out, or names with a word in capitals, is not an error.
    assert "Unrecognized" not in said
    assert "there is no command" not in said


@pytest.mark.parametrize(
    "line", ["headrace sink --data x --colour red", "headrace paint --wall", "headrace train --fast"]
)
def test_what_does_not_exist_is_found(line: str, refusal: Callable[[str], str]) -> None:
    assert re.search("Unrecognized|there is no|expected", refusal(line))


def test_the_page_of_the_format_reads_a_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path / "runs/can", [Recorded(7), Recorded(8, outcome=Outcome.FAILURE)])
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/format.md").read_text(), re.DOTALL)
    shard = "runs/can/robosuite/PickPlaceCan/000000.h5"
    assert shard in program
    program = program.replace(shard, f"runs/can/{SPEC.name}/000000.h5")
    words = [sys.executable, "-W", "error", "-c", program]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["7 True (6, 2) ['documents']", "8 False (6, 2) ['documents']"]
    with Image.open(tmp_path / "frame.jpg") as image:
        assert image.size == (64, 48)
