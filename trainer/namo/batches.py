"""Examples → the tensors that the models' losses take, each example turned or mirrored if asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.namo import symmetry
from trainer.namo.examples import GoalExample, ObjectExample, Picture, unpack
from trainer.namo.goal_model import GoalExamples
from trainer.namo.object_model import ObjectExamples
from trainer.namo.places import Places

Symmetries = NDArray[np.int64]
Array = NDArray[Any]


def object_batch(examples: Sequence[ObjectExample], symmetries: Symmetries, device: torch.device) -> ObjectExamples:
    """symmetries: one number for each example; 0 leaves it as it is."""
    masks, places = _pictures([example.picture for example in examples], symmetries)
    most = places.points.shape[1]
    reachable = np.stack([_padded(example.reachable, most) for example in examples])
    wanted = np.stack([_padded(example.wanted, most) for example in examples])
    return ObjectExamples(*_tensors((masks, places.points, places.numbers, reachable, wanted), device))


def goal_batch(examples: Sequence[GoalExample], symmetries: Symmetries, device: torch.device) -> GoalExamples:
    """symmetries: one number for each example; 0 leaves it as it is."""
    masks, places = _pictures([example.picture for example in examples], symmetries)
    moves = np.stack([example.move for example in examples])
    _apply(symmetry.of_moves, moves, symmetries)
    return GoalExamples(*_tensors((masks, places.points, places.numbers, moves), device))


def _pictures(pictures: Sequence[Picture], symmetries: Symmetries) -> tuple[NDArray[np.float32], Places]:
    masks = unpack(pictures)
    places = Places.empty(len(pictures), max(len(picture.points) for picture in pictures))
    for item, picture in enumerate(pictures):
        places.points[item, : len(picture.points)] = picture.points
        places.numbers[item, : len(picture.numbers)] = picture.numbers
    _apply(symmetry.of_masks, masks, symmetries)
    _apply(symmetry.of_points, places.points, symmetries)
    _apply(symmetry.of_numbers, places.numbers, symmetries)
    return masks.astype(np.float32), places


def _apply(change: Callable[..., Array], values: Array, symmetries: Symmetries) -> None:
    """In place, those of the same symmetry at once."""
    for number in range(1, symmetry.SYMMETRIES):
        chosen = symmetries == number
        if chosen.any():
            values[chosen] = change(values[chosen], number)


def _padded(row: Array, length: int) -> Array:
    return np.pad(row, (0, length - len(row)))


def _tensors(arrays: Sequence[Array], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]
