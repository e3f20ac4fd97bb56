"""`headrace models`: from nothing to a directory that a server can serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError, ModelError
from protocol.published import MANIFEST, VERSIONS, current_version, open_published, version_names
from trainer.models import main
from trainer.namo.architectures import ARCHITECTURES
from trainer.publish import publish, untrained


@pytest.fixture
def models(tmp_path: Path) -> Path:
    assert main(["init", "--models", str(tmp_path), "--seed", "3"]) == 0
    return tmp_path


def test_init(models: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    goal = open_published(models, "goal")
    assert (goal.manifest.kind, goal.manifest.architecture) == ("goal", "GoalModel")
    assert goal.manifest.trained_on == "nothing: untrained, seed 3"
    assert open_published(models, "object").manifest.kind == "object"
    again = tmp_path_factory.mktemp("again")
    main(["init", "--models", str(again), "--seed", "3", "--goal-name", "other"])
    assert "published other 000001-" in capsys.readouterr().out
    assert open_published(again, "other").manifest.sha256 == goal.manifest.sha256


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "is there already"),
        (["--object-name", "x", "--goal-name", "x"], "expected two names"),
        (["--object-name", "new", "--goal-name", "../x"], "expected as the name of a model"),
        (["--object-name", "new", "--goal-name", "newer", "--seed", "-1"], "expected --seed 0 or more"),
    ],
)
def test_init_that_cannot_be(models: Path, words: list[str], said: str) -> None:
    with pytest.raises((ConfigurationError, ModelError), match=said):
        main(["init", "--models", str(models), *words])
    assert sorted(entry.name for entry in models.iterdir()) == ["goal", "object"]


def test_list_and_rollback(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(untrained(ARCHITECTURES["GoalModel"], 4), "goal", models, "a test")
    first, second = version_names(models, "goal")
    capsys.readouterr()
    assert main(["list", "--models", str(models)]) == 0
    assert f"goal: GoalModel, 154004 parameters\n    {first}\n  → {second}\n" in capsys.readouterr().out
    assert main(["rollback", "goal", "--models", str(models)]) == 0
    assert capsys.readouterr().out == f"goal is now {first}\n"
    assert main(["rollback", "goal", "--models", str(models), "--to", second]) == 0
    assert current_version(models, "goal") == second
    capsys.readouterr()
    assert main(["list", "--models", str(models), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["goal"]["versions"], told["goal"]["current"]) == ([first, second], second)
    assert told["goal"]["manifest"]["trained_on"] == "a test"


def test_list_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--models", str(tmp_path)]) == 0
    assert "headrace models init" in capsys.readouterr().out


def test_verify(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(untrained(ARCHITECTURES["GoalModel"], 4), "goal", models)
    assert main(["verify", "--models", str(models)]) == 0
    old = version_names(models, "goal")[0]
    (models / "goal" / VERSIONS / old / MANIFEST).write_text("{}")
    assert main(["verify", "--models", str(models)]) == 0
    capsys.readouterr()
    assert main(["verify", "--models", str(models), "--all"]) == 1
    said = capsys.readouterr().out
    assert str(models / "goal" / VERSIONS / old / MANIFEST) in said
    assert said.endswith("5 checked, 1 with faults\n")
    (models / "object" / "current").write_text("..\n")
    assert main(["verify", "--models", str(models), "--name", "goal"]) == 0
    assert main(["verify", "--models", str(models)]) == 1
    assert main(["list", "--models", str(models)]) == 1
    assert "object: cannot be used" in capsys.readouterr().out


def test_verifying_needs_no_torch(models: Path) -> None:
    """A machine that only moves weights around can check them."""
    program = (
        "import sys; from trainer.models import main; "
        f"status = main(['verify', '--all', '--models', {str(models)!r}]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "4 checked, 0 with faults\n"
