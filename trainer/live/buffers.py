"""Memory of image batches, used again once nobody holds it.

Fresh memory has to be mapped and cleared page by page by the kernel, which costs about a tenth of decoding into it.
"""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray


class BufferPool:
    """Tensors that give their memory back by themselves. May be used by several threads at once."""

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[NDArray[np.uint8]]] = defaultdict(deque)

    def tensor(self, shape: tuple[int, ...], capacity: int) -> torch.Tensor:
        """uint8 of a shape, with any content; capacity: the largest first dimension that will be asked for."""
        free = self._free[prod(shape[1:]) * max(capacity, shape[0])]
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(prod(shape[1:]) * max(capacity, shape[0]), np.uint8)
        # The tensor and all that share its memory keep this array; when the last of them is gone, so is it.
        lent = memory[: prod(shape)].reshape(shape)
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent)
