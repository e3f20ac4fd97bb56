"""What a training run leaves in its folder: a log, a plot of the losses, and a checkpoint to go on from.

log.jsonl        one line for each evaluation and each publication
loss.png         training and validation loss by step, and when versions were published
checkpoint.safetensors    weights, the best weights and the optimizer; replaced by rename
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from protocol.errors import ConfigurationError, ModelError
from trainer.whole_files import replace_file

LOG, PLOT, CHECKPOINT = "log.jsonl", "loss.png", "checkpoint.safetensors"
_FORMAT = 1
# Key of the safetensors metadata that holds all but the tensors, as JSON.
_ABOUT = "headrace"
_TENSORS = ("model", "optimizer", "best")
Weights = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """Everything that a run goes on from. config: of the model. optimizer: its state, by the place of the
    parameter; learning rate and the like are those of the flags. best_loss: of `best`, on the validation part."""

    architecture: str
    config: dict[str, int | float]
    step: int
    epoch: int
    model: Weights
    optimizer: dict[int, Weights]
    best: Weights
    best_loss: float
    best_step: int


class RunFiles:
    """The folder of one run."""

    def __init__(self, folder: Path, resume: bool) -> None:
        """resume: the log goes on. Raises ConfigurationError if the folder cannot be written, or holds another run."""
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if resume and (folder / LOG).exists():
                self.rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
            else:
                (folder / LOG).write_text("")
        except (OSError, json.JSONDecodeError) as error:
            raise ConfigurationError(f"--out {folder}: cannot keep a training run there: {error}") from error

    def log(self, event: str, **values: Any) -> None:
        """Add a line. What is NaN is written as null."""
        row = {"event": event, "time": round(time.time(), 3), **{key: _known(value) for key, value in values.items()}}
        self.rows.append(row)
        with (self.folder / LOG).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. Raises ModelError if it cannot be written; the old one stays."""
        parts = {"model": checkpoint.model, "best": checkpoint.best}
        parts |= {f"optimizer.{number}": state for number, state in checkpoint.optimizer.items()}
        tensors = {
            f"{part}/{name}": tensor.detach().to("cpu", copy=True).contiguous()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        about = {name: value for name, value in vars(checkpoint).items() if name not in _TENSORS}
        data = save(tensors, {_ABOUT: json.dumps({"format": _FORMAT, **about})})
        try:
            replace_file(self.folder / CHECKPOINT, data)
        except OSError as error:
            what = f"{self.folder / CHECKPOINT}: cannot be written ({error.strerror})"
            raise ModelError(f"{what}; mend that, then go on with --resume") from error

    def load(self) -> Checkpoint:
        """Raises ConfigurationError if there is none, ModelError if it cannot be read."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            raise ConfigurationError(
                f"--resume: {path} is not there; leave --resume out, or give the --out of that run"
            )
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})[_ABOUT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
            if about.pop("format") != _FORMAT:
                raise ModelError(f"{path}: written by another version of Headrace; begin anew without --resume")
            parts: dict[str, Weights] = {}
            for place, tensor in tensors.items():
                part, _, name = place.partition("/")
                parts.setdefault(part, {})[name] = tensor
            model, best = parts.pop("model"), parts.pop("best")
            optimizer = {int(part.removeprefix("optimizer.")): state for part, state in parts.items()}
            return Checkpoint(**about, model=model, optimizer=optimizer, best=best)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); begin anew without --resume") from error

    def plot(self, title: str) -> Path:
        """Draw the losses so far."""
        from matplotlib.figure import Figure  # takes half a second to import

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss", title=title)
        rows = [row for row in self.rows if row["event"] == "evaluated"]
        for name in ("training_loss", "validation_loss"):
            known = [(row["step"], row[name]) for row in rows if row[name] is not None]
            axes.plot([step for step, _ in known], [loss for _, loss in known], ".-", label=name.replace("_", " "))
        for row in self.rows:
            if row["event"] == "published":
                axes.axvline(row["step"], color="grey", linewidth=0.8, linestyle="--")
                axes.text(row["step"], 1.0, f" {row['version'][:6]}", transform=axes.get_xaxis_transform(), va="top")
        axes.legend()
        path = self.folder / PLOT
        figure.savefig(path, dpi=120)
        return path


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
