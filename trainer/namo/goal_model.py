"""Where should a movable go? Samples of push goals by conditional flow matching over SE(2).

A goal is four numbers: displacement of the centre in the world's axes, in units of `reach_m`, and cosine and sine of
the turn. The model learns the velocity that carries normal noise (time 0) to goals (time 1) along straight lines
(Lipman et al., Flow Matching for Generative Modeling). The picture is encoded once for each question; only a small
perceptron runs for each sample and step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from protocol.namo.masks import CHANNELS
from trainer.namo.encoder import MaskEncoder, Rows, Width
from trainer.namo.places import NUMBERS

GOAL_CHANNELS = CHANNELS
GOAL_NUMBERS = 4
_TIMES = 16


@dataclass(frozen=True)
class GoalConfig:
    """width: channels of the fine map; hidden: of the perceptrons; layers: of the velocity; steps: of Heun's method."""

    width: Width = 32
    hidden: Width = 128
    layers: Annotated[int, Meta(ge=1, le=16)] = 2
    steps: Annotated[int, Meta(ge=1, le=64)] = 4
    reach_m: Annotated[float, Meta(ge=1e-3, le=1e3)] = 1.0


@dataclass(frozen=True)
class GoalExamples:
    """Pushes to learn from.

    masks: float32[B, 6, 64, 64]; points, numbers: `places.selected_places`; moves: float32[B, 3], displacement of the
    centre in the world's axes [m] and turn [rad].
    """

    masks: Tensor
    points: Tensor
    numbers: Tensor
    moves: Tensor


class GoalModel(nn.Module):
    """Masks and the place of one movable → a context; context and noise → moves."""

    def __init__(self, config: GoalConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MaskEncoder(len(GOAL_CHANNELS), config.width)
        self.context = Rows(self.encoder.features + NUMBERS, config.hidden, config.hidden)
        self.enter = nn.Linear(GOAL_NUMBERS, config.hidden)
        self.time = nn.Linear(_TIMES, config.hidden)
        self.layers = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers))
        self.leave = nn.Linear(config.hidden, GOAL_NUMBERS)

    def encode(self, masks: Tensor, points: Tensor, numbers: Tensor) -> Tensor:
        """The context of each question, float32[B, hidden]."""
        rows = torch.cat([self.encoder(masks, points), numbers], dim=-1)
        found: Tensor = self.context(rows[:, 0])
        return found

    def velocity(self, at: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """Of rows at [R, 4] with contexts [R, hidden] at times [R] or [1] in 0 … 1: [R, 4]."""
        angles = time[:, None] * (math.pi * 2 ** torch.arange(_TIMES // 2, device=time.device))
        entered: Tensor = self.enter(at)
        rows = functional.silu(entered + context + self.time(torch.cat([angles.cos(), angles.sin()], dim=-1)))
        for layer in self.layers:
            rows = rows + functional.silu(layer(rows))
        found: Tensor = self.leave(rows)
        return found

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Carry noise [R, 4] with contexts [R, hidden] to moves float32[R, 3]: metres, metres, radians."""
        at, step = noise, 1 / self.config.steps
        for number in range(self.config.steps):
            begin = torch.full((1,), number * step, device=at.device)
            first = self.velocity(at, context, begin)
            second = self.velocity(at + step * first, context, begin + step)
            at = at + step / 2 * (first + second)
        turn = torch.atan2(at[:, 3], at[:, 2])
        return torch.cat([at[:, :2] * self.config.reach_m, turn[:, None]], dim=-1)

    def loss(self, examples: GoalExamples, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity at random times on the way from random noise; a scalar.

        generator: on the CPU, so that a run is the same on every device.
        """
        moves = examples.moves
        end = torch.cat([moves[:, :2] / self.config.reach_m, moves[:, 2:].cos(), moves[:, 2:].sin()], dim=-1)
        begin = torch.randn(end.shape, generator=generator).to(end.device)
        time = torch.rand(len(end), generator=generator).to(end.device)
        at = begin + time[:, None] * (end - begin)
        context = self.encode(examples.masks, examples.points, examples.numbers)
        return functional.mse_loss(self.velocity(at, context, time), end - begin)
