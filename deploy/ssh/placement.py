"""Which host runs which program: a pure function of their cores and of what programs want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from deploy.roles import Role
from deploy.ssh.orders import Program

SERVER_KINDS = ("sink", "inference")
Placed = tuple[Role, int]
JobKind = Literal["servers", "trainers", "producers"]


def place(roles: Sequence[Role], cores: Mapping[str, int], servers: str) -> dict[str, list[Placed]]:
    """Host → (role, number of the task) of what it runs.

    cores: of the hosts that producers may have, in the user's order. servers: the host of servers and trainers, which
    may be one of them. Each task of a producer goes where, with it, the smallest share of the cores is wanted.
    """
    placed: dict[str, list[Placed]] = {host: [] for host in dict.fromkeys((servers, *cores))}
    used = dict.fromkeys(placed, 0)
    for role in roles:
        wanted = role.resources.cpus or 1
        for number in range(role.count):
            host = servers
            if role.kind == "producers":
                host = min(cores, key=lambda each: (used[each] + wanted) / cores[each])
            placed[host].append((role, number))
            used[host] += wanted
    return placed


def wanted_cores(placed: Sequence[Placed]) -> int:
    """All together, of one host."""
    return sum(role.resources.cpus or 1 for role, _ in placed)


def name_of(role: Role, number: int) -> str:
    """Of a program; producers are known to the sink by it."""
    return role.name if role.count == 1 else f"{role.name}.{number}"


def kind_of(role: Role) -> JobKind:
    """As records have it."""
    return "servers" if role.kind in SERVER_KINDS else "trainers" if role.kind == "trainer" else "producers"


def program_of(role: Role, number: int, addresses: Mapping[str, str]) -> Program:
    """addresses: announcement files, by the names of what they announce."""
    name = name_of(role, number)
    words = role.words(addresses)
    environment = role.environment(addresses)
    if role.announces is not None:
        words += ["--announce", addresses[role.announces]]
    if role.kind == "producers":
        words += [] if role.own_program else ["--plain"]
        # Each worker is one core; libraries' own threads would only take turns with it.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**threads, **environment, "HEADRACE_NAME": name}
    prepare = (role.prepare.words, str(role.prepare.unless)) if role.prepare is not None else None
    resumes = str(role.resumes) if role.resumes is not None else None
    return Program(name, tuple(words), role.own_program, environment, prepare, resumes, role.nice)
