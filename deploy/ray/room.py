"""Whether a cluster can ever have room for a collection: Ray itself would wait for the missing node without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.ray.plan import Actor
from protocol.errors import ConfigurationError

_MIB = 1 << 20


@dataclass(frozen=True)
class NodeRoom:
    """A node of the cluster. resources: all that it has, taken or not, by Ray's names; memory in bytes."""

    address: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def suits(self, actor: Actor) -> bool:
        """An empty node of this kind has room for it."""
        labels = actor.placement.labels.items()
        return _covers(self.resources, actor.needs) and all(self.labels.get(name) == value for name, value in labels)


def check_room(actors: Sequence[Actor], nodes: Sequence[NodeRoom]) -> None:
    """Raise ConfigurationError for an actor that no node suits, or if they cannot run side by side.

    Producers may wait for each other; servers and trainers may not, nor all producers for them.
    """
    for actor in actors:
        if not any(node.suits(actor) for node in nodes):
            labels = _labels(actor.placement.labels)
            where = f" on a node with the label {labels}" if labels else ""
            raise ConfigurationError(
                f"{actor.name} asks for {_told(actor.needs)}{where}, which no node of the cluster has: {_all(nodes)}. "
                "Ask for less in its [….resources] or [ray], or start a node that has it"
            )
    standing = [actor for actor in actors if actor.kind != "producers"]
    producers = [actor for actor in actors if actor.kind == "producers"]
    needed = _sum([actor.needs for actor in standing])
    least = min(producers, key=lambda actor: actor.needs["CPU"])
    there = _sum([node.resources for node in nodes])
    if not _covers(there, _sum([needed, least.needs])):
        names = ", ".join(actor.name for actor in standing)
        raise ConfigurationError(
            f"{names} together ask for {_told(needed)}, and {least.name} for {_told(least.needs)} beside them; all "
            f"nodes have {_told({name: there.get(name, 0) for name in _sum([needed, least.needs])})}: {_all(nodes)}"
        )


def _covers(there: Mapping[str, float], needed: Mapping[str, float]) -> bool:
    return all(there.get(name, 0) >= amount for name, amount in needed.items())


def _sum(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _told(resources: Mapping[str, float]) -> str:
    return ", ".join(
        f"{amount / _MIB:.0f} MiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in resources.items()
    )


def _all(nodes: Sequence[NodeRoom]) -> str:
    """Without what Ray keeps for itself: each node's own name, its object store."""
    told = []
    for node in nodes:
        own = {
            name: node.resources[name] for name in sorted(node.resources) if not name.startswith(("node:", "object"))
        }
        labels = _labels({name: value for name, value in node.labels.items() if not name.startswith("ray.io")})
        told.append(f"{node.address} has {_told(own) or 'nothing'}" + (f", label {labels}" if labels else ""))
    return "; ".join(told)


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
