"""`python -m trainer.bench.steps SETTINGS`: training steps a second on a LiveDataset, growing or frozen.

Settings: data, mode, steps, batch, chunk, image (height, width), core. The step is a small convolutional policy, always
the same; what differs is the data. Each turn opens the dataset anew, outside of what is timed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer import LiveDataset, Loading, Order, Sample
from trainer.bench.turns import Clock, serve, settings_of

_WIDTH = 64


class Policy(nn.Module):
    """images {camera: [B, 3, H, W]}, qpos [B, D] → actions [B, K, A]."""

    def __init__(self, state: int, action: int, cameras: int, chunk: int) -> None:
        super().__init__()
        self._shape = (chunk, action)
        self._see = nn.Sequential(
            nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, _WIDTH, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self._act = nn.Linear(_WIDTH * cameras + state, chunk * action)

    def forward(self, images: dict[str, Tensor], qpos: Tensor) -> Tensor:
        """float32[B, K, A]."""
        seen = [self._see(image.float() / 255).flatten(1) for image in images.values()]
        out: Tensor = self._act(torch.cat([*seen, qpos], 1)).unflatten(1, self._shape)
        return out


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Steps (as `samples`), times, and how many episodes there were before and after."""
    torch.manual_seed(0)
    sample = Sample(chunk_size=settings["chunk"], image_size=tuple(settings["image"]))
    order, loading = Order(mode=settings["mode"]), Loading(batch_size=settings["batch"])
    with LiveDataset(settings["data"], sample, order=order, loading=loading) as data:
        schema = data.schema()
        policy = Policy(schema.state_dim, schema.action_dim, len(schema.cameras), settings["chunk"])
        optimiser = torch.optim.AdamW(policy.parameters(), 1e-4)
        before, began = data.episodes, Clock()
        for batch in data.batches(steps=settings["steps"]):
            wrong = (policy(batch["images"], batch["qpos"]) - batch["action"]).abs() * ~batch["is_pad"][..., None]
            optimiser.zero_grad()
            wrong.mean().backward()
            optimiser.step()
        return {"samples": settings["steps"], **began.passed(), "before": before, "after": data.episodes}


if __name__ == "__main__":
    chosen = settings_of(sys.argv)
    serve(chosen, partial(measure, chosen))
