"""Checkpoints on disk: whole ones only, and nothing is built from one that is not what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from protocol import checkpoint as layout
from protocol.checkpoint import OpenCheckpoint, Source, open_checkpoint
from protocol.errors import ModelError
from trainer.act.checkpoint import (
    load_policy,
    restore_training,
    seeds_bytes,
    training_bytes,
    weights_bytes,
    write_checkpoint,
)
from trainer.act.config import ActConfig
from trainer.act.model import Act
from trainer.act.run import load_backbones

CONFIG = ActConfig(state=2, action=2, chunk=3, hidden=8, feedforward=8, heads=2, encoder_layers=1, latent=2)
SOURCE = Source(
    streams=("test/count",),
    state_columns={"observations/qpos": 2},
    cameras={},
    rate_hz=50.0,
    attributes={"env_args": {"env_name": "Lift"}},
    episodes=3,
)


def a_model(config: ActConfig = CONFIG, seed: int = 0) -> Act:
    torch.manual_seed(seed)
    return Act(config)


def optimizer_of(model: Act) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), 1e-3)


def step(model: Act, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(4, 2), {}).square().sum().backward()
    optimizer.step()


def write(out: Path, model: Act, number: int, optimizer: torch.optim.Optimizer | None = None) -> OpenCheckpoint:
    files = {
        layout.WEIGHTS: weights_bytes(model.state_dict()),
        layout.TRAINING: training_bytes(model, optimizer or optimizer_of(model), with_model=False),
        layout.PROGRESS: b"{}",
        layout.SEEDS: seeds_bytes(np.array([3, 2**63], np.uint64)),
    }
    return write_checkpoint(out, number, model.config, SOURCE, files, keep=2)


def test_a_policy_comes_back(tmp_path: Path) -> None:
    model = a_model()
    model.state_normalisation.set(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    write(tmp_path, model, 5)
    found = open_checkpoint(tmp_path)
    assert found.name == "step-00000005"
    assert found.manifest.source == SOURCE
    np.testing.assert_array_equal(found.seeds(), np.array([3, 2**63], np.uint64))
    policy = load_policy(found)
    assert policy.config == CONFIG
    state = torch.randn(3, 2)
    assert torch.equal(policy(state, {}), model.eval()(state, {}))


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3, 10):
        write(tmp_path, a_model(), number)
    names = sorted(path.name for path in (tmp_path / layout.CHECKPOINTS).iterdir())
    assert names == ["step-00000003", "step-00000010"]
    assert open_checkpoint(tmp_path).manifest.step == 10
    assert open_checkpoint(tmp_path / layout.CHECKPOINTS / names[0]).manifest.step == 3


def test_one_that_nothing_points_to_is_written_anew(tmp_path: Path) -> None:
    """Its writer died before it moved the pointer."""
    write(tmp_path, a_model(), 1)
    write(tmp_path, a_model(seed=1), 2)
    (tmp_path / layout.CURRENT).write_text("step-00000001\n")
    write(tmp_path, a_model(seed=2), 2)
    state = torch.randn(1, 2)
    assert torch.equal(load_policy(open_checkpoint(tmp_path))(state, {}), a_model(seed=2).eval()(state, {}))


def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """Weights and the optimizer's moments: the next steps are the same, bit for bit."""
    model = a_model()
    optimizer = optimizer_of(model)
    for number in range(3):
        step(model, optimizer, number)
    found = write(tmp_path, model, 3, optimizer)
    again = a_model(seed=9)
    again_optimizer = optimizer_of(again)
    restore_training(found, again, again_optimizer)
    for number in range(3, 6):
        step(model, optimizer, number)
        step(again, again_optimizer, number)
    for (name, ours), theirs in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def rewrite(checkpoint: OpenCheckpoint, weights: bytes) -> None:
    """Put another file in, with a manifest to match."""
    path = checkpoint.folder / layout.MANIFEST
    manifest = json.loads(path.read_bytes())
    entry = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    manifest["files"][layout.WEIGHTS] |= entry
    path.write_text(json.dumps(manifest))
    (checkpoint.folder / layout.WEIGHTS).write_bytes(weights)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    model = a_model()
    found = write(tmp_path, model, 1)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["state.weight"] = tensors["state.weight"].t().contiguous()
    rewrite(found, save(tensors))
    with pytest.raises(ModelError, match=r"another shape: state.weight: expected \[8, 2\], found \[2, 8\]; give"):
        load_policy(open_checkpoint(tmp_path))


def test_weights_that_are_missing(tmp_path: Path) -> None:
    model = a_model()
    found = write(tmp_path, model, 1)
    tensors = dict(model.state_dict())
    tensors["other.bias"] = tensors.pop("style.bias")
    rewrite(found, save(tensors))
    with pytest.raises(ModelError, match=r"other.bias: the model has no such; style.bias: it is missing"):
        load_policy(open_checkpoint(tmp_path))


def read_all(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    load_policy(checkpoint)
    checkpoint.seeds()


@pytest.mark.parametrize("name", [layout.WEIGHTS, layout.MANIFEST, layout.SEEDS])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "linked"])
def test_damage_is_told(tmp_path: Path, name: str, how: str) -> None:
    path = write(tmp_path, a_model(), 1).folder / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if how == "flipped":
        data[0] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-3])
    elif how == "linked":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError) as told:
        read_all(tmp_path)
    assert str(tmp_path) in str(told.value)


def test_a_size_that_no_model_has(tmp_path: Path) -> None:
    found = write(tmp_path, a_model(), 1)
    manifest = msgspec.structs.replace(found.manifest, config={**found.manifest.config, "hidden": 10**9})
    (found.folder / layout.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ModelError, match=r"its config is none of Act: .*hidden"):
        load_policy(open_checkpoint(tmp_path))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found no checkpoint in it"):
        open_checkpoint(tmp_path)


def test_nan_is_not_saved(tmp_path: Path) -> None:
    model = a_model()
    write(tmp_path, model, 1)
    model.state_dict()["state.bias"].fill_(float("nan"))
    with pytest.raises(ModelError, match=r"NaN in state\.bias"):
        write(tmp_path, model, 2)
    assert open_checkpoint(tmp_path).manifest.step == 1


def test_pretrained_backbones(tmp_path: Path) -> None:
    """A file with torchvision's names, as torchvision writes it: with its classifier and counters."""
    config = msgspec.structs.replace(
        CONFIG, cameras=("front", "wrist"), image_height=32, image_width=32, backbone_width=2
    )
    model = a_model(config)
    tensors = {name: torch.randn_like(value) for name, value in model.backbones[0].state_dict().items()}
    extra = {"fc.weight": torch.zeros(1000, 16), "bn1.num_batches_tracked": torch.tensor(3)}
    save_file({**tensors, **extra}, tmp_path / "resnet.safetensors")
    load_backbones(model, tmp_path / "resnet.safetensors")
    for backbone in model.backbones:
        assert all(torch.equal(value, tensors[name]) for name, value in backbone.state_dict().items())
    with pytest.raises(ModelError, match=r"weights of another shape: bn1.bias: expected \[4\], found \[2\]"):
        load_backbones(a_model(msgspec.structs.replace(config, backbone_width=4)), tmp_path / "resnet.safetensors")
    with pytest.raises(ModelError, match=r"--pretrained .*expected a safetensors file"):
        load_backbones(model, tmp_path / "none.safetensors")
