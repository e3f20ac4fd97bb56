"""How the frames of a packed shard are stored, and which packets one of them needs. SPEC.md section 3.15.

A group of `gop` steps is a key frame, a frame that refers to it and comes last, and between them frames that refer to
these two only. So whatever step is wanted, three packets at most are decoded.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from protocol.errors import SpecError

# libx264 puts at most 16 frames between two others.
MAX_GOP = 18


class Packing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The attribute `packing` of a packed shard. gop: steps of a group; encoder: what made it, for people."""

    codec: Literal["h264"]
    gop: int
    encoder: str

    def __post_init__(self) -> None:
        if not 1 <= self.gop <= MAX_GOP:
            raise ValueError(f"gop: expected 1 to {MAX_GOP}, found {self.gop}")

    def to_json(self) -> bytes:
        """As stored: keys sorted, no spaces."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, data: bytes) -> Packing:
        """Raises SpecError."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise SpecError(f"packing: {error}; this release reads h264 in groups of 1 to {MAX_GOP} steps") from error

    def group(self, step: int, steps: int) -> tuple[int, int]:
        """(first step, number of steps) of the group of `step` in an episode of `steps`."""
        first = step - step % self.gop
        return first, min(self.gop, steps - first)


def needed(place: int, count: int) -> tuple[int, ...]:
    """Which packets of a group of `count` make frame number `place`, in the order in which a decoder gets them."""
    return (0,) if place == 0 else tuple(dict.fromkeys((0, count - 1, place)))


def coded_order(count: int) -> tuple[int, ...]:
    """All packets of a group in the order in which a decoder gets them."""
    return tuple(dict.fromkeys((0, count - 1, *range(count))))
