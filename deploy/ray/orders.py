"""What an actor is to run: everything that its node has to know, and nothing of Ray."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.roles import Role

# Each worker is one core; libraries' own threads would only take turns with it.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Orders:
    """One program of a collection.

    name: of the actor, and of a producer. folder: for announcements, logs and reports. cwd: where it runs. addresses:
    announcement files by the names of what they announce. environment: variables beside those of the node.
    """

    name: str
    generation: int
    role: Role
    folder: Path
    cwd: Path
    addresses: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def log(self) -> Path:
        """One for all lives of an actor."""
        return log_of(self.folder, self.name, self.generation)

    @property
    def announcement(self) -> Path | None:
        """The file that says that it is ready, if it is a server."""
        return Path(self.addresses[self.role.name]) if self.role.announces else None

    def words(self) -> list[str]:
        """The command on this node, at this moment."""
        words = self.role.words(self.addresses)
        if self.role.own_program:
            return words
        words += ["--announce", str(self.announcement)] if self.announcement is not None else []
        words += ["--plain"] if self.role.kind == "producers" else []
        return [*headrace(), *words, *self.role.resume_words()]

    def preparation(self) -> list[str] | None:
        """What has to run to its end before, unless that was done."""
        prepare = self.role.prepare
        return None if prepare is None or prepare.unless.exists() else [*headrace(), *prepare.words]

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Its environment. Whether a sink has keys, and which, is said by the topology and not by the node's shell."""
        found = {name: value for name, value in inherited.items() if name != "HEADRACE_KEY"}
        if self.role.kind == "producers":
            found |= {**_ONE_THREAD, "HEADRACE_NAME": self.name}
        return found | self.role.environment(self.addresses) | dict(self.environment)


def headrace() -> tuple[str, ...]:
    """The command of the Headrace that is installed beside the Ray of this node."""
    return (sys.executable, "-m", "deploy.main")


def log_of(folder: Path, name: str, generation: int) -> Path:
    """Of one actor; a later submission has another one."""
    return folder / "logs" / f"{name}-g{generation}.log"
