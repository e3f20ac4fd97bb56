"""The checkpoint of a training run: what is saved comes back, and nothing else is taken for one."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from protocol.errors import ConfigurationError, ModelError
from trainer.namo.run_files import CHECKPOINT, Checkpoint, RunFiles


def checkpoint() -> Checkpoint:
    """Of a real optimizer, after a step."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    weights = model.state_dict()
    return Checkpoint("Linear", {"width": 3, "reach_m": 1.5}, 7, 2, weights, optimizer.state_dict()["state"],
                      weights, 0.25, 5)  # fmt: skip


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    files, saved = RunFiles(tmp_path, resume=False), checkpoint()
    files.save(checkpoint())
    files.save(saved)
    found = files.load()
    for name in ("architecture", "config", "step", "epoch", "best_loss", "best_step"):
        assert getattr(found, name) == getattr(saved, name)
    for there, here in ((saved.model, found.model), (saved.best, found.best)):
        assert there.keys() == here.keys()
        assert all(torch.equal(there[name], here[name]) for name in there)
    assert {number: state.keys() for number, state in found.optimizer.items()} == {
        number: state.keys() for number, state in saved.optimizer.items()
    }
    for number, state in saved.optimizer.items():
        assert all(torch.equal(value, found.optimizer[number][name]) for name, value in state.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, "log.jsonl"]


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_checkpoint_that_is_cut_off(tmp_path: Path, size: int) -> None:
    files = RunFiles(tmp_path, resume=False)
    files.save(checkpoint())
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cannot be read .*; begin anew without --resume"):
        files.load()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, resume=False)
    with pytest.raises(ConfigurationError, match="is not there; leave --resume out"):
        files.load()
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps({"format": 1}))
    with pytest.raises(ModelError, match="cannot be read"):
        files.load()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "out", resume=False)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(ModelError, match=r"cannot be written \(No such file or directory\)"):
        files.save(checkpoint())
