"""ACT: what is seen and a style variable → the next `chunk` actions.

In training a transformer encoder reads the true actions and tells the style (a conditional variational autoencoder);
afterwards the style is zero. Everything goes in and comes out in the units of the data: means and standard deviations
of the training episodes are part of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.act.config import ActConfig
from trainer.act.resnet import ResNet18, feature_size
from trainer.act.transformer import DecoderLayer, EncoderLayer, picture_places, sinusoids

# Of ImageNet's pictures, in the order red, green, blue.
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# A number that hardly moves in the data must not be blown up.
MIN_STD = 1e-2


Images = Mapping[str, Tensor]


@dataclass(frozen=True)
class Examples:
    """A batch. state: float32[B, S]. images: camera → uint8[B, 3, H, W]. action: float32[B, K, A].

    is_pad: bool[B, K], True behind the end of the episode.
    """

    state: Tensor
    images: Images
    action: Tensor
    is_pad: Tensor


@dataclass(frozen=True)
class Losses:
    """Scalars. total = l1 + β·kl. l1: mean over what is not padding, in standard deviations. kl: [nat]."""

    total: Tensor
    l1: Tensor
    kl: Tensor


class Normalisation(nn.Module):
    """Data ↔ numbers around 0 with a spread of about 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Use these from now on: [size] and [size], in the data's units."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=MIN_STD))

    def forward(self, x: Tensor) -> Tensor:
        """[…, size] in the data's units → normalised."""
        return (x - self.mean) / self.std

    def undo(self, x: Tensor) -> Tensor:
        """[…, size] normalised → in the data's units."""
        return x * self.std + self.mean


class StyleEncoder(nn.Module):
    """State and true actions → mean and log variance of the style. B: batch, K: chunk, D: hidden, Z: latent."""

    places: Tensor

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(1, config.hidden)
        self.state = nn.Linear(config.state, config.hidden)
        self.action = nn.Linear(config.action, config.hidden)
        self.layers = _encoder(config)
        self.style = nn.Linear(config.hidden, 2 * config.latent)
        places = sinusoids(torch.arange(config.chunk + 2.0), config.hidden)  # [2 + K, D]
        self.register_buffer("places", places[None], persistent=False)

    def forward(self, state: Tensor, action: Tensor, is_pad: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S], [B, K, A], bool[B, K] → [B, Z], [B, Z]."""
        first = self.token.weight.expand(len(state), 1, -1)  # [B, 1, D]
        tokens = torch.cat([first, self.state(state)[:, None], self.action(action)], dim=1)  # [B, 2 + K, D]
        padding = functional.pad(is_pad, (2, 0), value=False)  # [B, 2 + K]
        for layer in self.layers:
            tokens = layer(tokens, self.places, padding)  # [B, 2 + K, D]
        mean, log_variance = self.style(tokens[:, 0]).float().chunk(2, dim=-1)  # [B, Z], [B, Z]
        return mean, log_variance


class Act(nn.Module):
    """The policy and its loss. B: batch, K: chunk, D: hidden, P: places of a picture, N: tokens, Z: style."""

    places: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.config = config.check()
        self.state_normalisation = Normalisation(config.state)
        self.action_normalisation = Normalisation(config.action)
        self.style_encoder = StyleEncoder(config)
        self.style = nn.Linear(config.latent, config.hidden)
        self.state = nn.Linear(config.state, config.hidden)
        self.state_places = nn.Embedding(2, config.hidden)
        self.encoder = _encoder(config)
        self.queries = nn.Embedding(config.chunk, config.hidden)
        self.decoder = nn.ModuleList(
            DecoderLayer(config.hidden, config.heads, config.feedforward, config.dropout)
            for _ in range(config.decoder_layers)
        )
        self.action = nn.Linear(config.hidden, config.action)
        self._start_transformers()
        self.backbones = nn.ModuleList(
            ResNet18(config.backbone_width) for _ in config.cameras[: 1 if config.shared_backbone else None]
        )
        self.image = nn.Conv2d(8 * config.backbone_width, config.hidden, 1) if config.cameras else None
        rows, columns = feature_size(config.image_height), feature_size(config.image_width)
        self.register_buffer("places", picture_places(rows, columns, config.hidden), persistent=False)
        for name, values in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)

    @property
    def parameters_count(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, state: Tensor, images: Images) -> Tensor:
        """The policy, style 0: float32[B, S], camera → uint8[B, 3, H, W] → actions float32[B, K, A] as in the data."""
        style = state.new_zeros(len(state), self.config.latent)  # [B, Z]
        return self.action_normalisation.undo(self.predict(self.state_normalisation(state), images, style))

    def loss(self, examples: Examples, beta: float) -> Losses:
        """With the style that the true actions tell. β weighs how far it may be from a standard normal."""
        state = self.state_normalisation(examples.state)  # [B, S]
        action = self.action_normalisation(examples.action)  # [B, K, A]
        mean, log_variance = self.style_encoder(state, action, examples.is_pad)  # [B, Z], [B, Z]
        style = mean + (log_variance / 2).exp() * torch.randn_like(mean)  # [B, Z]
        l1 = masked_l1(self.predict(state, examples.images, style), action, examples.is_pad)
        kl = kl_to_standard_normal(mean, log_variance)
        return Losses(l1 + beta * kl, l1, kl)

    def error(self, examples: Examples) -> Tensor:
        """L1 of the policy as it is used, style 0, in standard deviations: a scalar."""
        state = self.state_normalisation(examples.state)  # [B, S]
        style = state.new_zeros(len(state), self.config.latent)  # [B, Z]
        found = self.predict(state, examples.images, style)  # [B, K, A]
        return masked_l1(found, self.action_normalisation(examples.action), examples.is_pad)

    def predict(self, state: Tensor, images: Images, style: Tensor) -> Tensor:
        """Normalised state [B, S], camera → uint8[B, 3, H, W], style [B, Z] → normalised actions [B, K, A]."""
        pictures = [self._look(place, images[name]) for place, name in enumerate(self.config.cameras)]  # [B, P, D] each
        numbers = torch.stack([self.style(style), self.state(state)], dim=1)  # [B, 2, D]
        memory = torch.cat([numbers, *pictures], dim=1)  # [B, N, D]
        places = torch.cat([self.state_places.weight, *(self.places,) * len(pictures)])[None]  # [1, N, D]
        for layer in self.encoder:
            memory = layer(memory, places)  # [B, N, D]
        queries = self.queries.weight[None]  # [1, K, D]
        x = torch.zeros_like(queries).expand(len(state), -1, -1)  # [B, K, D]
        for layer in self.decoder:
            x = layer(x, queries, memory, places)  # [B, K, D]
        found: Tensor = self.action(x).float()  # [B, K, A]
        return found

    def measure(self, images: Images) -> None:
        """Set the statistics inside of backbones that are trained from scratch; images: camera → uint8[B, 3, H, W]."""
        for number, backbone in enumerate(self.backbones):
            assert isinstance(backbone, ResNet18)
            names = self.config.cameras if self.config.shared_backbone else self.config.cameras[number : number + 1]
            backbone.measure(self._pixels(torch.cat([images[name] for name in names])))  # [B·C or B, 3, H, W]

    def _look(self, camera: int, pixels: Tensor) -> Tensor:
        """uint8[B, 3, H, W] → a token for each place of the features, [B, P, D]."""
        assert self.image is not None
        backbone = self.backbones[0 if self.config.shared_backbone else camera]
        features = self.image(backbone(self._pixels(pixels)))  # [B, D, H/32, W/32]
        tokens: Tensor = features.flatten(2).transpose(1, 2)  # [B, P, D]
        return tokens

    def _pixels(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.image_mean) / self.image_std  # [B, 3, H, W]

    def _start_transformers(self) -> None:
        for layers in (self.style_encoder.layers, self.encoder, self.decoder):
            for weight in layers.parameters():
                if weight.dim() > 1:
                    nn.init.xavier_uniform_(weight)


def masked_l1(found: Tensor, wanted: Tensor, is_pad: Tensor) -> Tensor:
    """Mean absolute difference of [B, K, A] and [B, K, A] where bool[B, K] is False; 0 if that is nowhere.

    The sum is divided by the number of elements that count: dividing by all of them, as the original does, makes
    examples near the end of an episode weigh less.
    """
    valid = ~is_pad[..., None].expand_as(found)  # [B, K, A]
    return ((found - wanted).abs() * valid).sum() / valid.sum().clamp(min=1)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), [B, Z] → mean over the batch of the sum over Z."""
    each = -0.5 * (1 + log_variance - mean.square() - log_variance.exp())  # [B, Z]
    return each.sum(dim=-1).mean()


def _encoder(config: ActConfig) -> nn.ModuleList:
    return nn.ModuleList(
        EncoderLayer(config.hidden, config.heads, config.feedforward, config.dropout)
        for _ in range(config.encoder_layers)
    )
