"""The models that weights can be published for, by the name in the manifest. Nothing is imported by name."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.published import Kind
from trainer.namo.goal_model import GoalConfig, GoalModel
from trainer.namo.object_model import ObjectConfig, ObjectModel

Network = ObjectModel | GoalModel


@dataclass(frozen=True)
class Architecture:
    """What it answers, its class, and the class of its config (a frozen dataclass of bounded numbers)."""

    kind: Kind
    model: type[ObjectModel] | type[GoalModel]
    config: type[ObjectConfig] | type[GoalConfig]

    def build(self, config: ObjectConfig | GoalConfig) -> Network:
        """A model of it with fresh weights, from torch's current random state."""
        model: type[Network] = self.model
        return model(config)  # type: ignore[arg-type]  # config is of the class that belongs to the model


ARCHITECTURES: dict[str, Architecture] = {
    "ObjectModel": Architecture("object", ObjectModel, ObjectConfig),
    "GoalModel": Architecture("goal", GoalModel, GoalConfig),
}
