"""The actors of a collection: one for each program, with what Ray has to know of it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.ray.orders import Orders
from deploy.ray.settings import RayPlacement
from deploy.roles import Role, roles_of
from deploy.topology import Topology

ActorKind = Literal["servers", "trainers", "producers"]
_KINDS: dict[str, ActorKind] = {
    "sink": "servers", "inference": "servers", "trainer": "trainers", "producers": "producers",
}  # fmt: skip


@dataclass(frozen=True)
class Actor:
    """One detached actor. number: among those of its role, or None. max_restarts: as in [ray]."""

    orders: Orders
    number: int | None
    placement: RayPlacement
    max_restarts: int

    @property
    def name(self) -> str:
        """In the collection's namespace."""
        return self.orders.name

    @property
    def kind(self) -> ActorKind:
        """As in [ray.KIND]."""
        return _KINDS[self.orders.role.kind]

    @property
    def needs(self) -> dict[str, float]:
        """What its node must have free, by Ray's names. memory: [bytes]."""
        asked = self.orders.role.resources
        found: dict[str, float] = {"CPU": asked.cpus or 1}
        found |= {"GPU": asked.gpus} if asked.gpus else {}
        found |= {"memory": asked.memory_mib << 20} if asked.memory_mib is not None else {}
        return found | self.placement.resources

    def options(self) -> dict[str, Any]:
        """As Ray's `.options` takes them."""
        needs = dict(self.needs)
        asked: dict[str, Any] = {"num_cpus": needs.pop("CPU"), "num_gpus": needs.pop("GPU", 0)}
        if "memory" in needs:
            asked["memory"] = int(needs.pop("memory"))
        asked |= {"resources": needs} if needs else {}
        asked |= {"label_selector": self.placement.labels} if self.placement.labels else {}
        # Far from each other, so that a lost node takes few of them along.
        asked |= {"scheduling_strategy": "SPREAD"} if self.kind == "producers" else {}
        return asked | {"max_restarts": self.max_restarts}


@dataclass(frozen=True)
class RayPlan:
    """All actors in the order in which they begin. cwd: where programs run."""

    topology: Topology
    cwd: Path
    generation: int
    actors: tuple[Actor, ...]

    @property
    def namespace(self) -> str:
        """Ray's, for the actors of this collection: its name and its folder."""
        return namespace_of(self.topology)

    def named(self, *kinds: str) -> list[Actor]:
        """The actors of these kinds."""
        return [actor for actor in self.actors if actor.kind in kinds]


def namespace_of(topology: Topology) -> str:
    """The same for each submission of a collection. Two of one name have different folders."""
    folder = hashlib.sha256(str(topology.folder).encode()).hexdigest()[:12]
    return f"headrace-{topology.name or 'collection'}-{folder}"


def plan_actors(topology: Topology, cwd: Path, generation: int) -> RayPlan:
    """topology: with absolute paths. generation: of the submission."""
    settings, folder = topology.ray, topology.folder
    roles = roles_of(topology, folder / "logs")
    addresses = {role.announces: str(folder / f"{role.announces}.json") for role in roles if role.announces}
    actors = []
    for role in roles:
        placement = settings.placement(_KINDS[role.kind])
        for name, number in _names(role):
            orders = Orders(name, generation, role, folder, cwd, addresses, settings.environment)
            actors.append(Actor(orders, number, placement, settings.max_restarts))
    return RayPlan(topology, cwd, generation, tuple(actors))


def _names(role: Role) -> Sequence[tuple[str, int | None]]:
    if role.kind != "producers":
        return [(role.name, None)]
    return [(f"{role.name}.{number}", number) for number in range(role.count)]


def printed(plan: RayPlan) -> str:
    """Every role with what Ray is asked for and the command. Nothing is looked at or written."""
    lines = [f"# namespace {plan.namespace}, in {plan.cwd}"]
    shown = set()
    for actor in plan.actors:
        role = actor.orders.role
        if role.name in shown:
            continue
        shown.add(role.name)
        asked = ", ".join(f"{name}={value!r}" for name, value in actor.options().items())
        count = f"{role.count} actors {role.name}.N" if actor.number is not None else f"actor {role.name}"
        given = role.environment(actor.orders.addresses) | dict(actor.orders.environment)
        words = [*(f"{name}={value}" for name, value in given.items()), *actor.orders.words()]
        lines.append(f"# {count}: {asked}\n{shlex.join(words)}")
    return "\n".join(lines) + "\n"
