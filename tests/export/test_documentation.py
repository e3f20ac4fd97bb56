"""Every command in docs/exports.md runs, and does what is said beside it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import h5py
import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded
from tests.export.arm import SPEC, make

TEXT = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
CAN = StreamSpec(
    "robosuite/PickPlaceCan",
    SPEC.rate_hz,
    SPEC.max_steps,
    (*SPEC.columns, Column("observations/eef_pos", "float32", (3,))),
    (Camera("agentview", 48, 64),),
)


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    attributes = {"policy": {"noise": 0.2}}
    recorded = [
        Recorded(index, 3 + index, Outcome.SUCCESS if index < 3 else Outcome.FAILURE, attributes if index else {})
        for index in range(4)
    ]
    make(Path("runs/can"), recorded, CAN, actions=0.01)
    lines = commands()
    assert len(lines) > 10
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "headrace"
        assert headrace([*words, "--workers", "1"]) == 0, line
    names = [path.name for path in Path("exports/films").glob("*.mp4")]
    assert sorted(names) == ["000002_agentview.mp4", "000003_agentview.mp4"]
    with h5py.File("exports/robomimic/demo.hdf5") as file:
        assert set(file["mask"]) == {"train", "valid"}
        assert "robot0_eef_pos" in file["data/demo_0/obs"]
    assert len(list(Path("exports/train").glob("*.hdf5"))) < 4


def test_every_format_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert headrace(["export", "--help"]) == 0
    listed = re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE)
    told = re.findall(r"^\| \[?`(\w+)`", TEXT, re.MULTILINE)
    assert sorted(listed) == sorted(told)
