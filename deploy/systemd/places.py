"""Directories of a program: where it runs, what is made for it, what it may write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.roles import Role
from deploy.systemd.frame import Frame
from deploy.systemd.quoting import quoted, raw
from deploy.systemd.sandbox import Settings
from deploy.topology import Topology
from protocol.errors import ConfigurationError
from protocol.keys import SINK_KEY

STATE = Path("/var/lib")
_ROOT, _ROOTS_HOME = "root", "/root"
_HOMES, _TEMPORARY = ("/home", _ROOTS_HOME, "/run/user"), ("/tmp", "/var/tmp")


def places(role: Role, frame: Frame) -> Settings:
    """Directories that are made for it, or that it may write."""
    if frame.user_manager:
        return [("WorkingDirectory", raw(str(frame.base)))]
    prefix, user = frame.settings.prefix, frame.settings.user
    rows: Settings = [("User", user), ("Group", user), ("CacheDirectory", prefix), ("CacheDirectoryMode", "0750")]
    if role.kind == "producers":
        # On a machine that has producers only, there is no such directory.
        return [*rows, ("WorkingDirectory", f"-{STATE / prefix}"), *_secrets(role, frame)]
    rows += [("StateDirectory", prefix), ("StateDirectoryMode", "0750"), ("WorkingDirectory", str(STATE / prefix))]
    rows += [("ReadWritePaths", quoted(str(path))) for path in outside(role, frame)]
    return rows + _secrets(role, frame)


def _secrets(role: Role, frame: Frame) -> Settings:
    """The servers' keys: who serves may read them, others do not see the secret one."""
    inference = frame.topology.inference
    folders = dict.fromkeys((frame.topology.keys, inference.keys if inference is not None else None))
    found = [Path(keys) for keys in folders if keys is not None]
    if role.announces is not None:
        return [("ReadOnlyPaths", quoted(f"-{keys}")) for keys in found]
    return [("InaccessiblePaths", quoted(f"-{keys / SINK_KEY}")) for keys in found]


def inside(role: Role, frame: Frame) -> list[Path]:
    """Directories that the unit makes by itself before the program starts."""
    return [path for path in written_paths(role, frame.topology) if path.is_relative_to(frame.base)]


def outside(role: Role, frame: Frame) -> list[Path]:
    """Directories that it may write, and that somebody else has to make."""
    return [path for path in written_paths(role, frame.topology) if not path.is_relative_to(frame.base)]


def written_paths(role: Role, topology: Topology) -> list[Path]:
    """Directories that have to be there, and that a role writes."""
    assert topology.inference is not None or role.kind in ("sink", "producers")
    models = [Path(topology.inference.models).parent] if topology.inference is not None else []
    match role.kind:
        case "sink":
            return [Path(topology.sink.data), topology.folder]
        case "inference":
            return [*models, topology.folder]
        case "trainer":
            return [*models, topology.folder]
        case "producers":
            return []


def _all_paths(role: Role, frame: Frame) -> list[Path]:
    topology = frame.topology
    python = frame.headrace[0]
    # That of a virtual environment is a link.
    texts = [topology.sink.data, topology.keys, role.key, python, str(Path(python).resolve())]
    texts += topology.systemd.environment.values()
    texts += [topology.inference.models] if topology.inference is not None else []
    texts += role.command if role.own_program else []
    return [topology.folder, *(Path(text) for text in texts if text and text.startswith("/"))]


def _below(path: Path, roots: Sequence[str]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def reaches_homes(role: Role, frame: Frame) -> bool:
    """Something that the program reads or writes is below /home or /root."""
    return any(_below(path, _HOMES) for path in _all_paths(role, frame))


def check_places(role: Role, frame: Frame) -> None:
    """Raise ConfigurationError for what no unit of the system would find, or could run."""
    for path in () if frame.user_manager else _all_paths(role, frame):
        if _below(path, _TEMPORARY):
            raise ConfigurationError(
                f"{path}: units of the system have a /tmp of their own (PrivateTmp) and would not find it; "
                "expected a place that stays, or --user"
            )
    user, python = frame.settings.user, Path(frame.headrace[0])
    hidden = any(_below(path, [_ROOTS_HOME]) for path in (python, python.resolve()))
    if hidden and user != _ROOT and not frame.user_manager:
        raise ConfigurationError(
            f"{python}: the user {user} cannot run what is below {_ROOTS_HOME}; install Headrace elsewhere, e.g. "
            'below /opt, and give [systemd] python = "/opt/headrace/bin/python"'
        )
