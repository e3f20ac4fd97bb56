"""The table of a topology that only systemd's units read."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

# What names of units and of users consist of, both.
UnitName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_-]{0,30}\Z")]


class SystemdSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """prefix: of all units, and the name of the directory below /var/lib; another one for each collection of a machine.

    user: whom the system's units run as, made by systemd-sysusers. python: the interpreter that has Headrace; by
    default the one that renders. environment: for all units. version: oldest systemd that reads them.
    """

    prefix: UnitName = "headrace"
    user: UnitName = "headrace"
    python: str | None = None
    environment: dict[Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z")], str] = {}
    version: Annotated[int, Meta(ge=250)] = 252
