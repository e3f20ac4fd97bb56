"""Transformer layers as in DETR: places are added to queries and keys only, normalisation comes after each sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class EncoderLayer(nn.Module):
    """Tokens look at each other."""

    def __init__(self, hidden: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
        self.feedforward = Feedforward(hidden, feedforward, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, tokens: Tensor, places: Tensor, padding: Tensor | None = None) -> Tensor:
        """[B, N, D], [1 or B, N, D], bool[B, N] (True: nobody looks there) → [B, N, D]."""
        q = tokens + places  # [B, N, D]
        seen, _ = self.attention(q, q, tokens, key_padding_mask=padding, need_weights=False)  # [B, N, D]
        tokens = self.norm1(tokens + self.dropout1(seen))  # [B, N, D]
        found: Tensor = self.norm2(tokens + self.dropout2(self.feedforward(tokens)))  # [B, N, D]
        return found


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the memory."""

    def __init__(self, hidden: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
        self.feedforward = Feedforward(hidden, feedforward, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(hidden) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(dropout) for _ in range(3))

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        """[B, K, D], [1, K, D], [B, N, D], [1, N, D] → [B, K, D]."""
        q = x + queries  # [B, K, D]
        seen, _ = self.attention(q, q, x, need_weights=False)  # [B, K, D]
        x = self.norm1(x + self.dropout1(seen))  # [B, K, D]
        seen, _ = self.cross_attention(x + queries, memory + places, memory, need_weights=False)  # [B, K, D]
        x = self.norm2(x + self.dropout2(seen))  # [B, K, D]
        found: Tensor = self.norm3(x + self.dropout3(self.feedforward(x)))  # [B, K, D]
        return found


class Feedforward(nn.Module):
    """The same small perceptron for each token."""

    def __init__(self, hidden: int, inside: int, dropout: float) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(hidden, inside), nn.Linear(inside, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] → [B, N, D]."""
        found: Tensor = self.linear2(self.dropout(functional.relu(self.linear1(tokens))))  # [B, N, D]
        return found


def sinusoids(positions: Tensor, size: int, temperature: float = 10_000.0) -> Tensor:
    """float32[N] places on a line → float32[N, size]: sine and cosine in turn, of wavelengths 2π to 2π·temperature."""
    exponents = torch.arange(0, size, 2) / size  # [size/2]
    angles = positions[:, None] / temperature**exponents  # [N, size/2]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # [N, size]


def picture_places(rows: int, columns: int, size: int) -> Tensor:
    """float32[rows·columns, size]: DETR's places in a picture. Half of the numbers tell the row, half the column."""
    y = sinusoids((torch.arange(rows) + 1) / rows * 2 * math.pi, size // 2)  # [rows, size/2]
    x = sinusoids((torch.arange(columns) + 1) / columns * 2 * math.pi, size // 2)  # [columns, size/2]
    both = torch.cat(
        [y[:, None].expand(-1, columns, -1), x[None].expand(rows, -1, -1)], dim=-1
    )  # [rows, columns, size]
    return both.flatten(0, 1)  # [rows·columns, size]
