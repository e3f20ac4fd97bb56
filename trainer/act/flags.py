"""The flags of `headrace train act`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protocol.errors import ConfigurationError
from trainer.act.config import ActConfig


@dataclass(frozen=True)
class ActFlags:
    """Train ACT on stored episodes, also while more of them are being collected."""

    data: tuple[Path, ...]
    """Dataset directories, as given to `headrace sink --data`."""
    out: Path = Path("runs/act")
    """Directory of checkpoints, logs and the plot of the loss."""
    stream: tuple[str, ...] = ()
    """Streams to train on; all of them if not given. They must have the same columns and cameras."""
    follow: bool = False
    """Go on with episodes that are committed while this runs, and wait for the first."""
    min_episodes: int = 1
    """Wait for so many before the first step. Means and standard deviations are those of the episodes that are there
    then, and stay as they are."""
    include_failures: bool = False
    """Imitate failed episodes too."""
    include_discarded: bool = False
    """Imitate episodes too that `headrace flag` discarded."""
    validation_share: float = 0.1
    """Share of the episodes that is never trained on, 0 to 1."""

    epochs: int = 100
    """Passes over the dataset; without effect if --steps is given."""
    steps: int | None = None
    """Train for so many steps instead."""
    batch_size: int = 8
    """Examples a step."""
    chunk_size: int = 90
    """Actions that are predicted at once [control steps]."""
    lr: float = 1e-5
    """Learning rate of AdamW."""
    lr_backbone: float = 1e-5
    """Learning rate of the ResNets."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: the learning rates fall to zero over --steps, which must be given."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    beta: float = 10.0
    """Weight of the KL divergence of the style."""
    clip_norm: float = 10.0
    """The gradient is made no longer than this."""
    ema: float = 0.0
    """Save and validate a moving average of the weights that keeps this share of itself in each step, e.g. 0.999."""
    per: Literal["step", "episode"] = "step"
    """An epoch: every step of every episode, or as in the original one random step of each."""
    seed: int = 0
    """Of weights, order of examples, dropout and style."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes cuda if there is one."""
    use_amp: bool = False
    """Compute in bfloat16 where it does no harm."""
    compile: bool = False
    """Compile model and loss with torch.compile; the first step then takes minutes."""
    threads: int | None = None
    """Threads of torch on the CPU; its own choice if not given."""
    workers: int = 2
    """Threads that read and decode."""

    state_columns: tuple[str, ...] = ("observations/qpos",)
    """Columns that make up the state, in this order."""
    cameras: tuple[str, ...] | None = None
    """Cameras, in this order; all of the stream if not given. `--cameras` without a name: none."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images that the model sees [pixels]; as they are stored if not given."""
    pretrained: Path | None = None
    """safetensors file of a ResNet-18 with torchvision's names. Without it the backbones are trained from scratch."""
    hidden: int = 512
    """Width of the transformers."""
    feedforward: int = 3200
    """Width inside of their layers."""
    heads: int = 8
    """Of attention."""
    encoder_layers: int = 4
    """Layers of the encoder, and of the one that reads the style."""
    decoder_layers: int = 1
    """Layers of the decoder. The paper's table says 7, but its code used the output of the first: its results are those
    of 1."""
    latent: int = 32
    """Size of the style."""
    dropout: float = 0.1
    """Share of numbers that are left out in training."""
    backbone_width: int = 64
    """Channels of the first stage of the ResNets; 64 is ResNet-18."""
    shared_backbone: bool = False
    """One ResNet for all cameras, as in the original code, not one for each."""

    resume: bool = False
    """Go on from the newest checkpoint of --out, with the example after the last one."""
    save_every: int = 1000
    """Steps between checkpoints."""
    keep: int = 3
    """Checkpoints that are kept."""
    validate_every: int = 1000
    """Steps between validations."""
    validation_batches: int = 50
    """Most batches of one validation."""
    log_every: int = 50
    """Steps between lines of the log."""
    plain: bool = False
    """Print a line now and then, not a progress bar."""

    def check(self) -> None:
        """Raises ConfigurationError."""
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected at least 1")
        if self.steps is not None and self.steps < 1:
            raise ConfigurationError(f"--steps {self.steps}: expected at least 1")
        if self.schedule == "cosine" and self.steps is None:
            raise ConfigurationError("--schedule cosine needs --steps: it must know where the end is")
        for name in ("ema", "validation_share"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ConfigurationError(f"--{name.replace('_', '-')} {value}: expected 0 or more, and below 1")
        for name in ("lr", "lr_backbone", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected more than 0")

    def config(self, state: int, action: int, cameras: dict[str, tuple[int, int]]) -> ActConfig:
        """The model for this data. cameras: name → height, width of what the model sees. Raises ConfigurationError."""
        if len(set(cameras.values())) > 1:
            raise ConfigurationError(
                f"expected cameras of one size, found {cameras}; give --image-size HEIGHT WIDTH, or --cameras NAME"
            )
        height, width = next(iter(cameras.values()), (480, 640))
        return ActConfig(
            state=state,
            action=action,
            cameras=tuple(cameras),
            image_height=height,
            image_width=width,
            chunk=self.chunk_size,
            **{name: getattr(self, name) for name in _SIZES},
        ).check()


_AT_LEAST_1 = (
    "min_episodes",
    "epochs",
    "batch_size",
    "chunk_size",
    "save_every",
    "keep",
    "validate_every",
    "validation_batches",
    "log_every",
)
# Fields of ActConfig that are flags of the same name.
_SIZES = (
    "hidden",
    "feedforward",
    "heads",
    "encoder_layers",
    "decoder_layers",
    "latent",
    "dropout",
    "backbone_width",
    "shared_backbone",
)
