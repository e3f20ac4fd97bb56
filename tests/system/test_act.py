"""From stored episodes to a trained policy to rollouts in robosuite, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.evaluate import main as evaluate
from protocol.checkpoint import open_checkpoint
from protocol.dataset_view import DatasetView
from protocol.errors import HeadraceError
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded, write_dataset
from trainer.act.train import main as train

# As robosuite's Lift is stored, with less in it.
SPEC = StreamSpec(
    "robosuite/Lift",
    rate_hz=50,
    max_steps=100,
    columns=(Column("action", "float32", (7,)), Column("observations/eef_pos", "float32", (3,))),
    cameras=(Camera("agentview", 36, 48),),
)
MADE = {"env_args": {"env_name": "Lift"}, "preset": "fast", "jpeg_quality": 80}
SMALL = "--hidden 16 --feedforward 16 --heads 2 --encoder-layers 1 --latent 4 --chunk-size 6 --backbone-width 2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("act")
    write_dataset(root / "data", [Recorded(index, steps=8, attributes=MADE) for index in range(3)], SPEC)
    flags = ["--plain", "--threads", "1", "--state-columns", "observations/eef_pos", "--image-size", "32", "40"]
    assert (
        train(["--data", str(root / "data"), "--out", str(root / "act"), "--steps", "3", *flags, *SMALL.split()]) == 0
    )
    return root / "act"


def test_a_policy_is_rolled_out(trained: Path, tmp_path: Path) -> None:
    """It sees pictures as the data have them, acts in each step, and each rollout is stored with its own seed."""
    file = tmp_path / "figures.json"
    words = ["--checkpoint", str(trained), "--episodes", "2", "--horizon", "8", "--workers", "1", "--json", str(file)]
    assert evaluate(["act", *words, "--sheet", "2"]) == 0
    result = json.loads(file.read_text())
    assert (result["task"], result["rollouts"], result["trained_episodes"]) == ("Lift", 2, 3)
    assert result["low"] <= result["success"] <= result["high"]
    assert result["seen_seeds"] == 0
    [out] = (trained / "evaluations").iterdir()
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 1000
    with DatasetView(out) as view:
        rollouts = list(view.new_episodes())
        assert [rollout.steps for rollout in rollouts] == [8, 8]
        seeds = {int(rollout.row["seed"]) for rollout in rollouts}
        assert len(seeds) == 2
        assert not seeds & set(open_checkpoint(trained).seeds().tolist())
        assert rollouts[0].attributes()["policy"]["checkpoint"] == "step-00000003"
        for rollout in rollouts:
            actions = rollout.column("action")
            assert (np.abs(actions) <= 1).all()
            assert set(actions[:, -1].tolist()) <= {-1.0, 0.0, 1.0}  # as robosuite takes the gripper's


def test_a_policy_for_another_task(trained: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(trained), "--episodes", "1", "--out", str(tmp_path / "out"), "--execute", "7"]
    with pytest.raises(HeadraceError, match="expected to execute 1 to 6 actions of a chunk, found 7"):
        evaluate(["act", *words, "--workers", "1"])
