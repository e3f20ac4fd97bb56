"""The sizes of an ACT model; the defaults are the paper's."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.errors import ConfigurationError

# Bounds of every size: a checkpoint from elsewhere cannot make a program build more than this.
Size = Annotated[int, Meta(ge=1, le=8192)]
Layers = Annotated[int, Meta(ge=1, le=64)]
Pixels = Annotated[int, Meta(ge=32, le=4096)]
MAX_CAMERAS = 16


class ActConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What decides the shapes of all weights.

    state, action: numbers of one state and of one action. cameras: in the order of the images; none: state only.
    image_height, image_width: of every camera's picture [pixels]. chunk: actions that are predicted at once.
    feedforward: width inside of a transformer layer. latent: size of the style variable.
    decoder_layers: the paper's table says 7, but its code took the output of the first, so its figures are of 1.
    backbone_width: channels of the first stage; 64 is ResNet-18. shared_backbone: one for all cameras, as the original
    code did; otherwise one for each, as the paper says.
    """

    state: Size
    action: Size
    cameras: Annotated[tuple[str, ...], Meta(max_length=MAX_CAMERAS)] = ()
    image_height: Pixels = 480
    image_width: Pixels = 640
    chunk: Size = 90
    hidden: Size = 512
    feedforward: Size = 3200
    heads: Layers = 8
    encoder_layers: Layers = 4
    decoder_layers: Layers = 1
    latent: Size = 32
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    backbone_width: Annotated[int, Meta(ge=1, le=512)] = 64
    shared_backbone: bool = False

    def check(self) -> ActConfig:
        """The config itself, if a model can be built of it. Raises ConfigurationError."""
        try:
            msgspec.convert(msgspec.to_builtins(self), ActConfig)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"a model of this size cannot be built: {error}") from error
        if self.hidden % self.heads or self.hidden % 4:
            raise ConfigurationError(
                f"expected a --hidden that is a multiple of 4 and of --heads, found {self.hidden} and {self.heads}"
            )
        if len(set(self.cameras)) != len(self.cameras):
            raise ConfigurationError(f"expected each camera once, found {', '.join(self.cameras)}")
        return self


def differences(expected: ActConfig, found: ActConfig) -> list[str]:
    """`name: expected, found` of each field that differs."""
    pairs = ((name, getattr(expected, name), getattr(found, name)) for name in ActConfig.__struct_fields__)
    return [f"{name} {ours!r} and {theirs!r}" for name, ours, theirs in pairs if ours != theirs]
