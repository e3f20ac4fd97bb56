"""Models from a directory of published weights."""

from __future__ import annotations

from pathlib import Path

from inference.model import Model
from inference.namo_models import best_device, load_model
from protocol.published import current_version, model_names, open_published

__all__ = ["PublishedSource", "best_device"]


class PublishedSource:
    """See `ModelSource`. device: see `load_model`."""

    def __init__(self, models: Path, device: str) -> None:
        self._models, self._device = models, device

    def names(self) -> list[str]:
        """All models of the directory. Raises ModelError."""
        return model_names(self._models)

    def current(self, name: str) -> str:
        """What the pointer says. Raises ModelError."""
        return current_version(self._models, name)

    def load(self, name: str, version: str) -> Model:
        """Weights are verified before anything is made of them. Raises ModelError."""
        return load_model(open_published(self._models, name, version), self._device)
