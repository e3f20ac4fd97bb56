"""The two things that are learned from searches, as the training loop sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from trainer.namo import measures
from trainer.namo.architectures import ARCHITECTURES, Network
from trainer.namo.batches import Symmetries, goal_batch, object_batch
from trainer.namo.examples import AnyExample, GoalExample, Learn, ObjectExample, goal_examples, object_examples
from trainer.namo.goal_model import GoalModel
from trainer.namo.object_model import ObjectModel
from trainer.namo.searches import Search
from trainer.publish import untrained

Example = TypeVar("Example", bound=AnyExample)
# The validation loss of the goal model is a mean over so many draws of time and noise, or over so many each.
_DRAWS, _MOST_DRAWS = 2000, 8
_BATCH = 128


class Task(ABC, Generic[Example]):
    """kind: of model. what: one example, in words. Subclasses know model and example."""

    kind: Literal["object", "goal"]
    what: str
    architecture: str

    def network(self, seed: int) -> Network:
        """With fresh weights."""
        return untrained(ARCHITECTURES[self.architecture], seed)

    @abstractmethod
    def read(self, search: Search) -> list[Example]:
        """The examples of one search."""

    @abstractmethod
    def loss(
        self, model: Network, examples: Sequence[Example], symmetries: Symmetries, generator: torch.Generator
    ) -> Tensor:
        """A scalar to be made smaller."""

    @abstractmethod
    def measure(self, model: Network, examples: Sequence[Example]) -> dict[str, float]:
        """Figures of the validation part that people understand."""

    @torch.inference_mode()
    def validation_loss(self, model: Network, examples: Sequence[Example]) -> float:
        """The mean loss, without augmentation; the same noise every time."""
        generator, total = torch.Generator().manual_seed(0), 0.0
        for begin in range(0, len(examples), _BATCH):
            part = examples[begin : begin + _BATCH]
            total += float(self.loss(model, part, np.zeros(len(part), np.int64), generator)) * len(part)
        return total / len(examples)


class ObjectTask(Task[ObjectExample]):
    """Which movable to push."""

    kind, what, architecture = "object", "choices", "ObjectModel"

    def read(self, search: Search) -> list[ObjectExample]:
        """States from which the search opened the goal."""
        return object_examples(search)

    def loss(
        self, model: Network, examples: Sequence[ObjectExample], symmetries: Symmetries, generator: torch.Generator
    ) -> Tensor:
        """Cross entropy."""
        del generator  # nothing is random here
        assert isinstance(model, ObjectModel)
        return model.loss(object_batch(examples, symmetries, _device(model)))

    def measure(self, model: Network, examples: Sequence[ObjectExample]) -> dict[str, float]:
        """Top-1 and mean reciprocal rank against baselines."""
        assert isinstance(model, ObjectModel)
        return measures.of_objects(model, examples, _device(model))


class GoalTask(Task[GoalExample]):
    """Where to push it."""

    kind, what, architecture = "goal", "helpful pushes", "GoalModel"

    def __init__(self, learn: Learn = "beyond") -> None:
        """learn: as in `examples.aim`."""
        self._learn: Learn = learn

    def read(self, search: Search) -> list[GoalExample]:
        """Pushes that opened the goal or led to it."""
        return goal_examples(search, self._learn)

    def loss(
        self, model: Network, examples: Sequence[GoalExample], symmetries: Symmetries, generator: torch.Generator
    ) -> Tensor:
        """Of conditional flow matching."""
        assert isinstance(model, GoalModel)
        return model.loss(goal_batch(examples, symmetries, _device(model)), generator)

    def validation_loss(self, model: Network, examples: Sequence[GoalExample]) -> float:
        """Over several draws of time and noise for each, where there are few examples."""
        draws = min(-(-_DRAWS // len(examples)), _MOST_DRAWS)
        return super().validation_loss(model, [example for example in examples for _ in range(draws)])

    def measure(self, model: Network, examples: Sequence[GoalExample]) -> dict[str, float]:
        """How near samples come to the push that helped."""
        assert isinstance(model, GoalModel)
        return measures.of_goals(model, examples, _device(model))


def _device(model: Network) -> torch.device:
    return next(model.parameters()).device
