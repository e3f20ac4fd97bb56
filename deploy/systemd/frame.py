"""What all units of a collection share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.systemd.settings import SystemdSettings
from deploy.topology import Topology


@dataclass(frozen=True)
class Frame:
    """base: where programs run. user_manager: units of `systemctl --user`. headrace: words of the command. addresses:
    announcement files by the names of what they announce.
    """

    topology: Topology
    base: Path
    user_manager: bool
    headrace: tuple[str, ...]
    addresses: Mapping[str, str]

    @property
    def settings(self) -> SystemdSettings:
        """Its own table."""
        return self.topology.systemd

    @property
    def target(self) -> str:
        """The unit that groups the others."""
        return f"{self.settings.prefix}.target"
