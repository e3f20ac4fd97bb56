"""The dispatcher, and what every command promises: help with units, and exit statuses."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import main as dispatcher
from deploy.main import COMMANDS, INTERRUPTED, USAGE_ERROR, main

KEYS = ("new", "allow", "list", "revoke")
MODELS = ("init", "list", "rollback", "verify")
PROGRAMS = sorted(
    [
        *COMMANDS,
        "produce robosuite",
        "produce namo",
        "namo scenes",
        "export namo",
        "bench plan",
        "bench infer",
        "bench read",
        "bench collect",
        "bench policy",
        "render systemd",
        "render kubernetes",
        *(f"keys {word}" for word in KEYS),
        *(f"models {word}" for word in MODELS),
    ]
)
# A flag that takes a number with a fraction measures something, and so has a unit.
UNIT = re.compile(r"\[(s|ms|min|h|Hz|MiB|MB|GB|bytes|pixels|m|rad|rounds?|episodes|steps|frames|threads)\b[^\]]*\]")


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == (0 if words else USAGE_ERROR)
    said = capsys.readouterr().out
    for name, (_, text, _) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", said, re.MULTILINE)


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["colect"]) == USAGE_ERROR
    said = capsys.readouterr().err
    assert "there is no command 'colect'" in said
    assert all(name in said for name in COMMANDS)


def status(words: list[str]) -> int:
    """How the command ends, also when its flags end it."""
    try:
        return main(words)
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize("command", PROGRAMS)
def test_help_of_each_program(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: headrace {command}" in said
    assert UNIT.search(said) or "FLOAT" not in said


@pytest.mark.parametrize("command", PROGRAMS)
def test_an_unknown_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([*command.split(), "--no-such-flag"]) != 0
    said = capsys.readouterr().err
    assert said
    assert "Traceback" not in said


# --- programs that fail -----------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A command `odd` whose first word says how it ends."""
    (tmp_path / "odd_program.py").write_text(
        "from protocol.errors import DatasetError\n"
        "def main(argv):\n"
        "    match argv:\n"
        "        case ['missing']: import no_such_package.inside\n"
        "        case ['foreseen']: raise DatasetError('/data: expected this, found that')\n"
        "        case ['interrupted']: raise KeyboardInterrupt\n"
        "        case ['bug']: raise ZeroDivisionError\n"
        "        case ['ours']: import protocol.no_such_module\n"
        "        case [number]: return int(number)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(dispatcher.COMMANDS, "odd", ("odd_program:main", "for tests", "sink"))
    importlib.invalidate_caches()
    yield "odd"
    sys.modules.pop("odd_program", None)


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("0", 0, ""),
        ("3", 3, ""),
        ("foreseen", 1, "headrace odd: /data: expected this, found that\n"),
        ("interrupted", INTERRUPTED, "headrace odd: interrupted\n"),
        (
            "missing",
            1,
            "headrace odd: the package 'no_such_package' is missing; install it with pip install 'headrace[sink]'\n",
        ),
    ],
)
def test_exit_statuses(program: str, word: str, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([program, word]) == status
    assert capsys.readouterr().err == said


def test_our_own_mistakes_are_not_hidden(program: str) -> None:
    with pytest.raises(ZeroDivisionError):
        main([program, "bug"])
    with pytest.raises(ModuleNotFoundError, match="protocol"):
        main([program, "ours"])


def test_the_installed_command(tmp_path: Path) -> None:
    """As a user's shell sees it: two streams and a status."""
    command = Path(sys.executable).with_name("headrace")
    done = subprocess.run([command, "inspect", tmp_path / "nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("headrace inspect: ")
    assert "Traceback" not in done.stderr
