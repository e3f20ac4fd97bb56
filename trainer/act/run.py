"""A training run: what the loop works on, and how it is saved and taken up again."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from protocol import checkpoint as layout
from protocol.checkpoint import OpenCheckpoint, has_checkpoint, open_checkpoint
from protocol.errors import ConfigurationError, ModelError
from trainer.act import checkpoint as checkpoints
from trainer.act.config import differences
from trainer.act.flags import ActFlags
from trainer.act.logs import Logs
from trainer.act.model import Act, Examples
from trainer.act.provenance import Provenance
from trainer.live import LiveDataset
from trainer.live.reader import Batch


@dataclass
class Run:
    """average: of the weights, if --ema. validation: opens the episodes that are not trained on, as of now.

    step: steps done. saved: the step of the newest checkpoint.
    """

    flags: ActFlags
    model: Act
    average: Act | None
    optimizer: torch.optim.Optimizer
    data: LiveDataset
    validation: Callable[[], LiveDataset]
    provenance: Provenance
    device: torch.device
    logs: Logs
    stop: threading.Event
    step: int = 0
    saved: int = -1

    @property
    def policy(self) -> Act:
        """The weights to be used."""
        return self.average or self.model

    @property
    def done(self) -> bool:
        """As many steps or epochs as were asked for, or somebody wants it to stop."""
        flags = self.flags
        whole = self.data.epoch >= flags.epochs if flags.steps is None else self.step >= flags.steps
        return whole or self.stop.is_set()

    def save(self) -> Path:
        """A checkpoint of this step, unless there is one; returns its folder. Raises ModelError."""
        folder = self.flags.out / layout.CHECKPOINTS / f"step-{self.step:08d}"
        if self.saved == self.step:
            return folder
        source, seeds = self.provenance.look()
        progress = {"epoch": self.data.epoch, "dataset": self.data.state_dict()}
        files = {
            layout.WEIGHTS: checkpoints.weights_bytes(self.policy.state_dict()),
            layout.TRAINING: checkpoints.training_bytes(self.model, self.optimizer, self.average is not None),
            layout.PROGRESS: json.dumps(progress).encode(),
            layout.SEEDS: checkpoints.seeds_bytes(seeds),
        }
        checkpoints.write_checkpoint(self.flags.out, self.step, self.model.config, source, files, self.flags.keep)
        self.saved = self.step
        return folder

    def restore(self, found: OpenCheckpoint) -> None:
        """Be where the run was that wrote it. Raises ModelError, DatasetError."""
        checkpoints.restore_training(found, self.model, self.optimizer)
        if self.average is not None:
            self.average.load_state_dict(checkpoints.load_policy(found).state_dict())
        progress = checkpoints.progress_of(found)
        self.data.load_state_dict(progress["dataset"])
        self.step = self.saved = found.manifest.step

    def examples(self, batch: Batch) -> Examples:
        """A batch of the dataset, on the device."""

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        images = {name: there(images) for name, images in batch["images"].items()}
        return Examples(there(batch["qpos"]), images, there(batch["action"]), there(batch["is_pad"]))


def checkpoint_to_resume(flags: ActFlags) -> OpenCheckpoint | None:
    """None: start anew. Raises ConfigurationError if the flags and --out do not say the same."""
    if has_checkpoint(flags.out) and not flags.resume:
        raise ConfigurationError(f"{flags.out} has checkpoints already; go on with --resume, or choose another --out")
    if flags.resume and not has_checkpoint(flags.out):
        raise ConfigurationError(f"{flags.out} has no checkpoint to --resume from; start without it")
    return open_checkpoint(flags.out) if flags.resume else None


def make_model(flags: ActFlags, data: LiveDataset, resumed: OpenCheckpoint | None) -> Act:
    """The model for this data, with its weights at the start. Raises ConfigurationError, ModelError."""
    schema = data.schema()
    config = flags.config(schema.state_dim, schema.action_dim, schema.cameras)
    if resumed is not None and (other := differences(config, checkpoints.config_of(resumed))):
        raise ConfigurationError(
            f"{resumed.folder}: a checkpoint of another shape: flags and data say, and it has, {'; '.join(other)}; "
            "give the flags that it was trained with, or choose another --out"
        )
    torch.manual_seed(flags.seed)
    model = Act(config)
    statistics = data.statistics()
    for normalisation, name in ((model.state_normalisation, "qpos"), (model.action_normalisation, "action")):
        found = statistics[name]
        normalisation.set(torch.as_tensor(found.mean).float(), torch.as_tensor(found.std).float())
    if flags.pretrained is not None:
        load_backbones(model, flags.pretrained)
    return model


def load_backbones(model: Act, path: Path) -> None:
    """Weights of a ResNet-18 with torchvision's names into every backbone. Raises ModelError."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"--pretrained {path}: expected a safetensors file, cannot read it: {error}") from error
    kept = {
        name: value.float()
        for name, value in tensors.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    for backbone in model.backbones:
        checkpoints.load_weights(backbone, kept, path)


def make_optimizer(flags: ActFlags, model: Act) -> torch.optim.AdamW:
    """AdamW with a learning rate of its own for the backbones."""
    backbones = list(model.backbones.parameters())
    known = set(map(id, backbones))
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": others, "lr": flags.lr}]
    if backbones:
        groups.append({"params": backbones, "lr": flags.lr_backbone})
    return torch.optim.AdamW(groups, weight_decay=flags.weight_decay)


def make_average(flags: ActFlags, model: Act) -> Act | None:
    """Weights for `--ema`: those of the start."""
    return copy.deepcopy(model).eval() if flags.ema else None
