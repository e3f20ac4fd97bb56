"""Files are written all or none, and nobody's file is replaced without being asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.main import main
from deploy.rendered import Rendered, write
from protocol.errors import ConfigurationError

RENDERED = Rendered({"a.txt": "a\n", "b/c.txt": "c\n"}, (), frozenset({"b/c.txt"}))


def test_files_are_written_once_and_secrets_for_nobody_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(RENDERED, out, force=False) == [out / "a.txt", out / "b" / "c.txt"]
    assert (out / "b" / "c.txt").read_text() == "c\n"
    assert (out / "b" / "c.txt").stat().st_mode & 0o777 == 0o600
    assert write(RENDERED, out, force=False) == [], "they are the same"


def test_nothing_is_written_if_one_file_is_there_with_other_content(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("mine\n")
    with pytest.raises(ConfigurationError, match=r"files of these names already: b/c\.txt; nothing was written"):
        write(RENDERED, tmp_path, force=False)
    assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "b" / "c.txt").read_text() == "mine\n"
    write(RENDERED, tmp_path, force=True)
    assert (tmp_path / "b" / "c.txt").read_text() == "c\n"
    assert (tmp_path / "b" / "c.txt").stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file\n")
    with pytest.raises(ConfigurationError, match="cannot write"):
        write(RENDERED, tmp_path, force=True)


@pytest.mark.parametrize("engine", ["systemd", "kubernetes"])
def test_the_command_says_what_to_do_next_and_keeps_what_is_there(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["render", engine, f"deploy/{engine}.example.toml", "--out", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"files written to {tmp_path}\nnext:\n" in said
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(words) == 0
    assert f"0 files written to {tmp_path}, {len(files)} were there already" in capsys.readouterr().out
    next(iter(files)).write_text("changed\n")
    assert main(words) == 1
    assert "replace them with --force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_another_engine_is_refused_before_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "sytemd", "deploy/systemd.example.toml", "--out", "units"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("headrace render: expected an engine, systemd or kubernetes, found 'sytemd'")
