"""The README's examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import h5py

from tests.system.test_robosuite import until

ROOT = Path(__file__).parent.parent


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_examples_publish_train_and_read(tmp_path: Path) -> None:
    publish, train, read = blocks("python")
    log = tmp_path / "sink.log"
    data = tmp_path / "runs" / "mine"
    words = ["--data", str(data), "--bind", "tcp://127.0.0.1:0", "--http", "None", "--shard-mib", "16"]
    with log.open("wb") as file:
        sink = subprocess.Popen([sys.executable, "-m", "deploy.main", "sink", *words], stderr=file)
    try:
        endpoint = until(lambda: re.search(r"producers at (\S+),", log.read_text()), "the sink", sink)[1]
        example = publish.replace("tcp://127.0.0.1:5555", endpoint)
        assert example != publish
        run(example, tmp_path)
        # While the sink still runs.
        trained, said = run(train, tmp_path), run(read, tmp_path)
    finally:
        sink.terminate()
        assert sink.wait(60) == 0
    assert re.fullmatch(r"3 episodes, loss \d+\.\d{3}\n", trained)
    assert said == "3 episodes; actions of the first: (50, 1)\n"
    with h5py.File(data / "lab" / "pendulum" / "000000.h5", "r") as file:
        rows = file["episodes"][:3]
        assert sorted(rows["index"]) == [0, 1, 2]
        assert (rows["outcome"] == 1).all()
        assert file["steps/action"][:150].any()


def run(program: str, folder: Path) -> str:
    """Run a program in a folder; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"\bheadrace ([a-z]+)", text))
    helped = subprocess.run(
        [sys.executable, "-m", "deploy.main", "--help"], capture_output=True, text=True, check=True
    ).stdout
    listed = set(re.findall(r"^  ([a-z]+) ", helped, re.MULTILINE))
    assert commands <= listed, commands - listed
