"""What the server asks of a model, and where models come from. The server knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protocol.namo.queries import ModelInfo, PushGoal, Query, RankedObject


class Model(Protocol):
    """One loaded version of one model; used by as many threads at a time as the server has.

    An answer may depend on its query only, never on the others of the batch. Whatever a call raises fails the items
    that were in it, after each was tried alone.
    """

    info: ModelInfo

    @property
    def drawn_s(self) -> float:
        """Seconds that this thread has spent drawing masks for it."""
        ...

    def rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        """Kind `object`: for each query its reachable movables, best first."""
        ...

    def sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        """Kind `goal`: for each query and object its goals, best first."""
        ...

    def warm_up(self, max_batch: int) -> None:
        """Do all that only a first call does, for every size up to this."""
        ...


class ModelSource(Protocol):
    """Where models come from. Raises HeadraceError for what cannot be used; called from one thread at a time."""

    def names(self) -> list[str]:
        """All there are."""
        ...

    def current(self, name: str) -> str:
        """The version that should be served now. Cheap: asked every second."""
        ...

    def load(self, name: str, version: str) -> Model:
        """Verify and load."""
        ...
