"""All files of a collection under systemd: services, a target, and what makes their user and directories."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from deploy.rendered import Rendered
from deploy.roles import Role, roles_of
from deploy.systemd.frame import Frame
from deploy.systemd.places import STATE, check_places, outside
from deploy.systemd.quoting import quoted, raw
from deploy.systemd.sandbox import Settings
from deploy.systemd.service import sections, service, unit_of
from deploy.topology import Topology, absolute
from protocol.errors import ConfigurationError

_HEAD = "# Made by `headrace render systemd`.\n"


def render_units(topology: Topology, cwd: Path, user_manager: bool) -> Rendered:
    """user_manager: for `systemctl --user`. cwd: where relative paths begin then; otherwise below /var/lib.

    Raises ConfigurationError for what a unit cannot say, or could not do.
    """
    settings = topology.systemd
    base = cwd if user_manager else STATE / settings.prefix
    topology = absolute(topology, base)
    roles = roles_of(topology, topology.folder / "logs")
    addresses = {role.announces: str(topology.folder / f"{role.announces}.json") for role in roles if role.announces}
    headrace = (settings.python or sys.executable, "-P", "-m", "deploy.main")
    frame = Frame(topology, base, user_manager, headrace, addresses)
    servers = [unit_of(role, frame) for role in roles if role.announces]
    files = {}
    for role in roles:
        _check(role, frame)
        after = servers[: servers.index(unit_of(role, frame))] if role.announces else servers
        files[unit_of(role, frame)] = service(role, frame, after)
    files[frame.target] = _target(frame, roles)
    if not user_manager:
        files[f"sysusers.d/{settings.prefix}.conf"] = _user(frame)
        if made := _directories(frame, roles):
            files[f"tmpfiles.d/{settings.prefix}.conf"] = made
    return Rendered({path: _HEAD + text for path, text in files.items()}, _next_steps(frame, files))


def _check(role: Role, frame: Frame) -> None:
    for text in role.command:
        if text.startswith("ipc://"):
            raise ConfigurationError(f"{text}: units cannot share it; expected an endpoint tcp://HOST:PORT")
    if role.own_program and not role.command[0].startswith("/"):
        raise ConfigurationError(f"{role.command[0]}: systemd wants the absolute path of a program")
    check_places(role, frame)


def _target(frame: Frame, roles: list[Role]) -> str:
    unit: Settings = [("Description", raw(f"Headrace collection {frame.topology.name}"))]
    for role in roles:
        name = unit_of(role, frame)
        instances = [name.replace("@", f"@{number}") for number in range(role.count)]
        unit += [("Wants", each) for each in (instances if role.kind == "producers" else [name])]
    wanted_by = "default.target" if frame.user_manager else "multi-user.target"
    return sections(Unit=unit, Install=[("WantedBy", wanted_by)])


def _user(frame: Frame) -> str:
    user = frame.settings.user
    return f'u {user} - "Headrace" {STATE / frame.settings.prefix}\n'


def _directories(frame: Frame, roles: list[Role]) -> str:
    """Those outside of the state directory; what is there already keeps its owner."""
    paths = [path for role in roles for path in outside(role, frame)]
    user = frame.settings.user
    return "".join(f"d {quoted(str(path))} :0750 :{user} :{user} -\n" for path in dict.fromkeys(paths))


def _next_steps(frame: Frame, files: dict[str, str]) -> list[str]:
    """Shell lines, to be run in the directory of the files."""
    prefix, keys, security = frame.settings.prefix, frame.topology.keys, frame.topology.security
    headrace = shlex.join(frame.headrace)
    made = [] if keys is None else [f"{headrace} keys new {shlex.quote(keys)}"]
    if security is not None:
        made.append(f"{headrace} keys new {shlex.quote(security.keys)} --client {security.client}")
    if frame.user_manager:
        return [
            *made,
            "mkdir -p ~/.config/systemd/user && cp *.service *.target ~/.config/systemd/user/",
            f"systemctl --user daemon-reload && systemctl --user enable --now {frame.target}",
            "loginctl enable-linger                # so that it goes on without a session of yours",
        ]
    steps = ["cp *.service *.target /etc/systemd/system/"]
    steps += [f"cp sysusers.d/{prefix}.conf /etc/sysusers.d/ && systemd-sysusers"]
    if f"tmpfiles.d/{prefix}.conf" in files:
        steps += [f"cp tmpfiles.d/{prefix}.conf /etc/tmpfiles.d/ && systemd-tmpfiles --create"]
    user = frame.settings.user
    if made:
        steps.append(f"install -d -o {user} -g {user} -m 0750 {STATE / prefix}")
        steps += [f"runuser -u {user} -- {each}" for each in made]
    return [*steps, f"systemctl daemon-reload && systemctl enable --now {frame.target}"]
