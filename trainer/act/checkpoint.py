"""Checkpoints of a training run: written whole, read back with every check, and never unpickled.

`weights.safetensors` is the policy as it should be used; `training.safetensors` what is needed to go on as if nothing
had happened: the optimizer's state, and with `--ema` the weights that it works on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from protocol import checkpoint as layout
from protocol.checkpoint import Checkpoint, FileEntry, OpenCheckpoint, Source
from protocol.errors import ModelError
from protocol.tensor_file import check_tensors
from trainer.act.config import ActConfig
from trainer.act.model import Act
from trainer.whole_files import remove_old_drafts, replace_file, write_folder

ARCHITECTURE = "Act"
_SHOWN = 3
_OPTIMIZER = "optimizer."
_MODEL = "model."


def write_checkpoint(
    out: Path, step: int, config: ActConfig, source: Source, files: Mapping[str, bytes], keep: int
) -> OpenCheckpoint:
    """Write one and point to it; of the older ones the newest `keep` - 1 stay.

    The current one must be of an earlier step. Raises ModelError.
    """
    name = f"step-{step:08d}"
    manifest = Checkpoint(
        format=layout.FORMAT,
        architecture=ARCHITECTURE,
        config=msgspec.to_builtins(config),
        step=step,
        source=source,
        files={name: _entry(name, data) for name, data in files.items()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    described = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    folder = out / layout.CHECKPOINTS / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_old_drafts(folder.parent)
        # One that was never pointed to: its writer died, and this run was resumed from the one before it.
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, {**files, layout.MANIFEST: described})
        replace_file(out / layout.CURRENT, f"{name}\n".encode())
        for old in sorted(folder.parent.glob("step-*"))[:-keep]:
            if old.name != name:
                shutil.rmtree(old)
    except OSError as error:
        raise ModelError(f"{folder}: cannot write a checkpoint ({error.strerror}); the last one stays") from error
    return OpenCheckpoint(folder, manifest)


def _entry(name: str, data: bytes) -> FileEntry:
    numbers = sum(tensor.numel() for tensor in load(data).values()) if name.endswith(".safetensors") else 0
    return FileEntry(len(data), hashlib.sha256(data).hexdigest(), numbers)


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file. Raises ModelError unless all is finite float32."""
    for key, value in tensors.items():
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise ModelError(f"expected finite float32 weights, found {value.dtype} or NaN in {key}; not saved")
    data: bytes = save({key: value.detach().to("cpu").contiguous() for key, value in tensors.items()})
    return data


def training_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, with_model: bool) -> bytes:
    """What `restore_training` needs."""
    tensors = {f"{_MODEL}{key}": value for key, value in model.state_dict().items()} if with_model else {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{_OPTIMIZER}{key}.{names[id(parameter)]}"] = value
    return weights_bytes(tensors)


def restore_training(checkpoint: OpenCheckpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Weights and optimizer as they were; the model must have this checkpoint's config. Raises ModelError."""
    tensors = _tensors(checkpoint, layout.TRAINING)
    weights = {key.removeprefix(_MODEL): value for key, value in tensors.items() if key.startswith(_MODEL)}
    load_weights(model, weights or _tensors(checkpoint, layout.WEIGHTS), checkpoint.folder / layout.WEIGHTS)
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if not key.startswith(_OPTIMIZER):
            continue
        field, _, name = key.removeprefix(_OPTIMIZER).partition(".")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size([])):
            raise ModelError(f"{checkpoint.folder / layout.TRAINING}: {key[:80]!r} does not fit the model")
        # Adam's `step` is a scalar that stays on the CPU.
        optimizer.state[parameter][field] = value.to(parameter.device) if value.dim() else value


def load_policy(checkpoint: OpenCheckpoint) -> Act:
    """The policy of a checkpoint, on the CPU, ready to be asked. Raises ModelError."""
    model = Act(config_of(checkpoint))
    load_weights(model, _tensors(checkpoint, layout.WEIGHTS), checkpoint.folder / layout.WEIGHTS)
    return model.eval()


def config_of(checkpoint: OpenCheckpoint) -> ActConfig:
    """The sizes of its model. Raises ModelError."""
    manifest = checkpoint.manifest
    if manifest.architecture != ARCHITECTURE:
        raise ModelError(f"{checkpoint.folder}: expected a model {ARCHITECTURE}, found {manifest.architecture!r}")
    try:
        return msgspec.convert(manifest.config, ActConfig)
    except msgspec.ValidationError as error:
        raise ModelError(f"{checkpoint.folder / layout.MANIFEST}: its config is none of Act: {error}") from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load them if names and shapes are the model's. Raises ModelError that names the first that are not."""
    expected = model.state_dict()
    faults = [f"{name}: it is missing" for name in expected.keys() - tensors.keys()]
    faults += [f"{name}: the model has no such" for name in tensors.keys() - expected.keys()]
    faults += [
        f"{name}: expected {list(expected[name].shape)}, found {list(value.shape)}"
        for name, value in tensors.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ModelError(f"{where}: weights of another shape: {shown}{more}; give the file of a model of this config")
    model.load_state_dict(tensors)


def _tensors(checkpoint: OpenCheckpoint, name: str) -> dict[str, Tensor]:
    data = checkpoint.read(name)
    check_tensors(checkpoint.folder / name, data, checkpoint.manifest.files[name].numbers)
    tensors: dict[str, Tensor] = load(data)
    return tensors


def progress_of(checkpoint: OpenCheckpoint) -> dict[str, Any]:
    """What the training loop wrote beside the weights. Raises ModelError."""
    try:
        return msgspec.json.decode(checkpoint.read(layout.PROGRESS), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ModelError(f"{checkpoint.folder / layout.PROGRESS}: expected a JSON object, found: {error}") from error


def seeds_bytes(seeds: NDArray[np.uint64]) -> bytes:
    """The file of `OpenCheckpoint.seeds`."""
    return seeds.astype("<u8").tobytes()
