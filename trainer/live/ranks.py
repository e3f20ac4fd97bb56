"""Several training processes that sample one dataset: all of them must mean the same snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from trainer.live.catalogue import Snapshot
from trainer.live.options import Order


@dataclass(frozen=True)
class Agreed:
    """What rank 0 saw: the snapshot, and whether it was told to stop."""

    snapshot: Snapshot
    stop: bool


class Ranks:
    """This process among `world_size`. With torch.distributed rank 0 tells the others what it sees; without it, of
    ranks that were given as numbers each must see the same by itself, as it does of a dataset that does not grow.
    """

    def __init__(self, order: Order) -> None:
        self._together = dist.is_available() and dist.is_initialized()
        self.rank, self.world_size = order.rank or 0, order.world_size or 1
        if order.rank is None and self._together:
            self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._together = self._together and self.world_size == dist.get_world_size() > 1

    def agree(self, mine: Agreed) -> Agreed:
        """What rank 0 says. All ranks must call it equally often."""
        if not self._together:
            return mine
        told: list[Any] = [mine]
        dist.broadcast_object_list(told, src=0)
        agreed: Agreed = told[0]
        return agreed
