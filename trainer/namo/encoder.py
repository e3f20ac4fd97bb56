"""The convolutions over the masks that both models have, and what they tell about places in the picture."""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

# Bounds of every size in a config: whoever publishes weights cannot make a server build more than this.
Width = Annotated[int, Meta(ge=8, le=512)]
# Fewer rows go to another kernel of the matrix library, which sums in another order.
_ROWS = 8


class MaskEncoder(nn.Module):
    """Masks float32[B, C, 64, 64] → a fine map [B, width, 16, 16] and a coarse one [B, 2·width, 8, 8].

    No layer mixes the items of a batch.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(channels, width // 2, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
        )
        self.features = 5 * width

    def forward(self, masks: Tensor, points: Tensor) -> Tensor:
        """What is seen at the points [B, K, P, 2] of each object, and all over the picture: [B, K, features]."""
        fine: Tensor = self.fine(masks)
        coarse: Tensor = self.coarse(fine)
        whole = coarse.mean(dim=(2, 3))[:, None].expand(-1, points.shape[1], -1)
        return torch.cat([_seen(fine, points), _seen(coarse, points), whole], dim=-1)


class Rows(nn.Module):
    """A small perceptron over rows, [R, inputs] → [R, outputs]; a row's answer is the same in whatever company."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """As the class says."""
        count = rows.shape[0]
        if count < _ROWS:
            rows = functional.pad(rows, (0, 0, 0, _ROWS - count))
        found: Tensor = self.layers(rows)
        return found[:count]


def _seen(features: Tensor, points: Tensor) -> Tensor:
    """Mean of the map over the points of each object: [B, K, C]."""
    sampled = functional.grid_sample(features, points, align_corners=False)
    return sampled.mean(dim=-1).transpose(1, 2)
