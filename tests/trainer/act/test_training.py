"""`headrace train act` on small stored datasets: it stops and goes on as if nothing had happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from protocol import checkpoint as layout
from protocol.checkpoint import open_checkpoint
from protocol.errors import ConfigurationError, DatasetError, ModelError
from tests.datasets import Recorded, write_dataset
from tests.processes import Process, wait_until
from trainer.act.checkpoint import load_policy
from trainer.act.logs import read_log
from trainer.act.train import main

SIZES = "--hidden 16 --feedforward 16 --heads 2 --encoder-layers 1 --latent 4 --chunk-size 5 --backbone-width 2"
FLAGS = ["--plain", "--threads", "1", "--batch-size", "4", "--lr", "1e-3", "--lr-backbone", "1e-3", *SIZES.split()]
NUMBERS = [*FLAGS, "--cameras"]
SEEING = [*FLAGS, "--cameras", "wrist", "front", "--image-size", "32", "40"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", [Recorded(index) for index in range(6)])
    return tmp_path / "data"


def train(data: Path, out: Path, *flags: str) -> int:
    return main(["--data", str(data), "--out", str(out), *flags])


def weights(out: Path, name: str = layout.WEIGHTS) -> bytes:
    return open_checkpoint(out).read(name)


@pytest.mark.parametrize("flags", [NUMBERS, [*SEEING, "--ema", "0.9"], [*NUMBERS, "--use-amp", "--workers", "0"]])
def test_a_resumed_run_is_the_same_run(data: Path, tmp_path: Path, flags: list[str]) -> None:
    """Bit for bit, in the middle of an epoch and over its end: 36 steps of 6 episodes are 9 batches an epoch."""
    assert train(data, tmp_path / "whole", *flags, "--validation-share", "0", "--log-every", "5", "--steps", "13") == 0
    for steps in ("4", "11", "13"):
        more = [] if steps == "4" else ["--resume"]
        assert (
            train(
                data, tmp_path / "parts", *flags, "--validation-share", "0", "--log-every", "5", "--steps", steps, *more
            )
            == 0
        )
    for name in (layout.WEIGHTS, layout.TRAINING, layout.PROGRESS, layout.SEEDS):
        assert weights(tmp_path / "whole", name) == weights(tmp_path / "parts", name), name
    steps = [[line["step"] for line in read_log(tmp_path / run / "log.jsonl")] for run in ("whole", "parts")]
    assert steps[0] == steps[1] == [5, 10]
    assert '"step": 5,' in (tmp_path / "parts" / "log.jsonl").read_text()


def test_what_is_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        train(data, out, *NUMBERS, "--validation-share", "0.4", "--epochs", "2", "--log-every", "2", "--keep", "1") == 0
    )
    checkpoint = open_checkpoint(out)
    policy = load_policy(checkpoint)
    assert checkpoint.manifest.source.streams == ("test/count",)
    assert checkpoint.manifest.source.state_columns == {"observations/qpos": 3}
    assert sorted(checkpoint.seeds()) == [1000 + index for index in range(6)]
    # Means and standard deviations are of the training episodes, and part of the weights.
    actions = policy.action_normalisation
    assert actions.std.min().item() > 1
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "l1" in line] == list(range(2, checkpoint.manifest.step + 1, 2))
    assert all(np.isfinite(line["loss"]) for line in lines if "l1" in line)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").iterdir())


def test_validation_is_logged_and_on_other_episodes(data: Path, tmp_path: Path) -> None:
    flags = [*NUMBERS, "--validation-share", "0.5", "--validate-every", "2"]
    assert train(data, tmp_path / "out", *flags, "--steps", "4") == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_l1" in line] == [2, 4]


def test_nan_stops_it_and_the_last_checkpoint_stays(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(data, out, *NUMBERS, "--steps", "2") == 0
    before = weights(out)
    with pytest.raises(
        ModelError, match=r"step \d+: the loss is .* training stops; the last good checkpoint is of step 2"
    ):
        train(data, out, *NUMBERS, "--steps", "9", "--resume", "--lr", "1e30")
    assert weights(out) == before
    assert train(data, out, *NUMBERS, "--steps", "3", "--resume") == 0


def test_nan_in_the_first_step(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="training stops; none was saved"):
        train(data, tmp_path / "out", *NUMBERS, "--steps", "9", "--lr", "1e30", "--beta", "1e38")


def test_a_checkpoint_of_another_shape(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(data, out, *NUMBERS, "--steps", "1") == 0
    with pytest.raises(
        ConfigurationError, match=r"of another shape: .* and it has, chunk 7 and 5; hidden 32 and 16; give"
    ):
        train(data, out, *NUMBERS, "--steps", "2", "--resume", "--chunk-size", "7", "--hidden", "32")
    with pytest.raises(ConfigurationError, match="has checkpoints already; go on with --resume"):
        train(data, out, *NUMBERS, "--steps", "2")
    with pytest.raises(ConfigurationError, match="no checkpoint to --resume from"):
        train(data, tmp_path / "none", *NUMBERS, "--resume")


def test_data_that_is_not_there(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DatasetError, match="front, wrist"):
        train(data, out, *FLAGS, "--cameras", "side")
    with pytest.raises(DatasetError, match="observations/qpos"):
        train(data, out, *NUMBERS, "--state-columns", "observations/none")
    with pytest.raises(DatasetError):
        train(tmp_path / "nowhere", out, *NUMBERS)
    with pytest.raises(ConfigurationError, match="cameras of one size"):
        train(data, out, *FLAGS)
    assert not out.exists()


def test_ctrl_c_saves_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--data", data, "--out", out, *NUMBERS, "--log-every", "1"]
    with Process("-m", "deploy.main", "train", "act", *flags, "--steps", "1000000") as process:
        wait_until(lambda: (out / "log.jsonl").exists() and (out / "log.jsonl").read_text(), "a step", 90)
        process.child.send_signal(signal.SIGINT)
        assert process.wait() == 130, process.output
    assert "with --resume goes on" in process.output
    step = open_checkpoint(out).manifest.step
    assert step > 0
    assert train(data, out, *NUMBERS, "--steps", str(step + 2), "--resume") == 0
    assert open_checkpoint(out).manifest.step == step + 2


def test_following_a_dataset_that_grows(tmp_path: Path) -> None:
    """It waits for the first episodes, and trains on them."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    flags = ["--data", data, "--out", out, *NUMBERS, "--follow", "--steps", "3", "--min-episodes", "2"]
    with Process("-m", "deploy.main", "train", "act", *flags, "--validation-share", "0") as process:
        write_dataset(data, [Recorded(index) for index in range(3)])
        assert process.child.wait(90) == 0, process.output
    assert open_checkpoint(out).manifest.step == 3
