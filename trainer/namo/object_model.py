"""Which movable should be pushed? A score for each of them, and a distribution over those that can be reached."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protocol.namo.masks import CHANNELS
from trainer.namo.encoder import MaskEncoder, Rows, Width
from trainer.namo.places import NUMBERS

OBJECT_CHANNELS = CHANNELS[:5]


@dataclass(frozen=True)
class ObjectConfig:
    """width: channels of the fine map; hidden: of the perceptron."""

    width: Width = 32
    hidden: Width = 128


@dataclass(frozen=True)
class ObjectExamples:
    """Choices to learn from.

    masks: float32[B, 5, 64, 64]; points, numbers: `places.all_places`; reachable: bool[B, K], at least one a row;
    wanted: float32[B, K], how good each is, a row sums to 1 and is 0 where nothing is reachable.
    """

    masks: Tensor
    points: Tensor
    numbers: Tensor
    reachable: Tensor
    wanted: Tensor


class ObjectModel(nn.Module):
    """Masks and places → one number for each movable; larger is better."""

    def __init__(self, config: ObjectConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MaskEncoder(len(OBJECT_CHANNELS), config.width)
        self.head = Rows(self.encoder.features + NUMBERS, config.hidden, 1)

    def forward(self, masks: Tensor, points: Tensor, numbers: Tensor) -> Tensor:
        """Scores float32[B, K], before any softmax; those of padding mean nothing."""
        rows = torch.cat([self.encoder(masks, points), numbers], dim=-1)
        found: Tensor = self.head(rows.flatten(0, 1))
        return found.view(rows.shape[:2])

    def loss(self, examples: ObjectExamples) -> Tensor:
        """Cross entropy between what was wanted and the softmax over what can be reached; a scalar [nat]."""
        scores: Tensor = self(examples.masks, examples.points, examples.numbers)
        chances = scores.masked_fill(~examples.reachable, -torch.inf).log_softmax(dim=-1)
        each = (examples.wanted * chances.masked_fill(~examples.reachable, 0.0)).sum(dim=-1)
        return -each.mean()
