"""The tables of a topology that only Ray reads."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

# Ray's own form of labels, `!`, `in(…)` and the like left out.
LabelName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]([A-Za-z0-9_./-]{0,250}[A-Za-z0-9])?\Z")]
LabelValue = Annotated[str, Meta(pattern=r"\A([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")]
ResourceName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,100}\Z")]
Amount = Annotated[float, Meta(gt=0)]
Variable = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z")]
Value = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
# "" is the cluster to which this machine belongs.
Address = Annotated[str, Meta(pattern=r"\A(|[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})\Z")]


class RayPlacement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where actors may be: nodes started with these `--labels`, and with these `--resources` of your own."""

    labels: dict[LabelName, LabelValue] = {}
    resources: dict[ResourceName, Amount] = {}

    def over(self, general: RayPlacement) -> RayPlacement:
        """This, and what it leaves open as in `general`."""
        return RayPlacement({**general.labels, **self.labels}, {**general.resources, **self.resources})


class RaySettings(RayPlacement, frozen=True, forbid_unknown_fields=True):
    """Placement of all actors; servers (sink and inference), trainers and producers may differ from it.

    address: HOST:PORT of the cluster's head; empty: the cluster of this machine. environment: variables for all
    programs. max_restarts: how often Ray begins one program again after its node or its process was lost.
    """

    address: Address = ""
    environment: dict[Variable, Value] = {}
    max_restarts: Annotated[int, Meta(ge=0, le=10_000)] = 5
    servers: RayPlacement = RayPlacement()
    trainers: RayPlacement = RayPlacement()
    producers: RayPlacement = RayPlacement()

    def placement(self, kind: str) -> RayPlacement:
        """kind: `servers`, `trainers` or `producers`."""
        chosen: Any = getattr(self, kind)
        placement: RayPlacement = chosen.over(RayPlacement(self.labels, self.resources))
        return placement
