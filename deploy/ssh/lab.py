"""The hosts of a collection, all asked at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deploy.record import Record
from deploy.ssh.link import PATIENCE_S, HostError, Link, ask_all
from deploy.ssh.orders import Order, Place
from deploy.ssh.settings import HERE, SshSettings
from deploy.topology import Topology

A = TypeVar("A")


@dataclass(frozen=True)
class Lab:
    """places: where things are on each host, by its name; HERE is this machine."""

    settings: SshSettings
    places: Mapping[str, Place]

    def link(self, host: str) -> Link:
        """To one host."""
        return Link(host, self.settings)

    def ask(
        self,
        order: Callable[[str], Order],
        kind: type[A],
        patience_s: float = PATIENCE_S,
        hosts: Sequence[str] | None = None,
        any_release: bool = False,
    ) -> dict[str, A | HostError]:
        """Answers, or why there is none, by host. order: for a host. hosts: all, if none are given."""
        chosen = list(self.places) if hosts is None else hosts
        return ask_all({host: (self.link(host), order(host)) for host in chosen}, kind, patience_s, any_release)


def lab_of(topology: Topology, hosts: Sequence[str], cwd: Path) -> Lab:
    """topology: as written. hosts: of producers; HERE is added if it asks for servers here."""
    settings, folder = topology.ssh, str(topology.folder)
    there = str(cwd) if settings.shared else settings.workdir or f"headrace/{topology.name}"
    places = {host: Place(there.removeprefix("~/"), folder) for host in hosts}
    return Lab(settings, ({HERE: Place(str(cwd), folder)} if settings.servers == HERE else {}) | places)


def lab_of_record(topology: Topology, record: Record) -> Lab:
    """As it was submitted; how hosts are reached is what the topology says now."""
    return Lab(topology.ssh, {each.name: Place(each.workdir, each.folder) for each in record.hosts})


def split(answers: Mapping[str, A | HostError]) -> tuple[dict[str, A], list[HostError]]:
    """Those that answered, and why others did not."""
    good = {host: answer for host, answer in answers.items() if not isinstance(answer, HostError)}
    return good, [answer for answer in answers.values() if isinstance(answer, HostError)]


def all_of(answers: Mapping[str, A | HostError]) -> dict[str, A]:
    """Raises HostError with a line for each host that did not answer."""
    good, bad = split(answers)
    if bad:
        raise HostError("\n".join(map(str, bad)))
    return good
