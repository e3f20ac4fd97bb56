"""The tables of a topology that only Slurm reads."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

# What Slurm's names and lists of names consist of; nothing that a shell, or sbatch's own parser, would take apart.
Word = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.,:@/+-]+\Z", max_length=200)]
Constraint = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.,:@/+&|*()\[\]-]+\Z", max_length=200)]
# One option of sbatch with its value, printable and in one piece.
Option = Annotated[str, Meta(pattern=r"\A--?[A-Za-z][A-Za-z0-9-]*(=[^\x00-\x1f\x7f'\\]+)?\Z", max_length=400)]
Line = Annotated[str, Meta(pattern=r"\A[^\x00\r\n]*\Z", max_length=4000)]


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where jobs go: names that your cluster's operator gave. extra: more options of sbatch, e.g. `--exclude=n3`."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Constraint | None = None
    extra: tuple[Option, ...] = ()

    def over(self, general: Placement) -> Placement:
        """This, and what it leaves open as in `general`; both their extra options, these last, so that they win."""
        return Placement(
            self.partition or general.partition,
            self.account or general.account,
            self.qos or general.qos,
            self.constraint or general.constraint,
            general.extra + self.extra,
        )

    def options(self) -> list[str]:
        """As options of sbatch."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        return [*(f"--{name}={value}" for name, value in named.items() if value is not None), *self.extra]


class SlurmSettings(Placement, frozen=True, forbid_unknown_fields=True):
    """Placement of all jobs; servers (sink and inference), trainers and producers may differ from it.

    setup: shell lines that run on the node before anything else, as they are (`module load …`, `source …/activate`).
    python: the interpreter on the nodes that has Headrace; by default the one that submits. max_running: of an array's
    tasks at once.
    """

    setup: tuple[Line, ...] = ()
    python: str | None = None
    max_running: Annotated[int, Meta(ge=1)] | None = None
    servers: Placement = Placement()
    trainers: Placement = Placement()
    producers: Placement = Placement()

    def placement(self, kind: str) -> Placement:
        """kind: `servers`, `trainers` or `producers`."""
        chosen: Placement = getattr(self, kind)
        return chosen.over(self)
