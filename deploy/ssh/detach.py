"""What keeps a program running when nobody is logged in: a user's systemd that lingers, or tmux."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from deploy.ssh.settings import Detacher
from protocol.errors import ConfigurationError

_LIMIT_S = 20.0
_LINGER = Path("/var/lib/systemd/linger")


def choose(wanted: Detacher | None) -> Detacher:
    """What this host has; systemd first, which also survives a login manager that ends a user's processes.

    Raises ConfigurationError.
    """
    why_not = _why_no_systemd()
    if why_not is None and wanted != "tmux":
        return "systemd-run"
    if wanted == "systemd-run":
        raise ConfigurationError(f"[ssh] detach: cannot use systemd-run: {why_not}")
    if shutil.which("tmux") is None:
        raise ConfigurationError(f"nothing keeps programs running after logout: there is no tmux, and {why_not or ''}")
    return "tmux"


def start(detach: Detacher, folder: Path, name: str, words: list[str]) -> None:
    """Start a program that outlives us. folder: of the collection. name: of the program. Raises ConfigurationError."""
    label = label_of(folder)
    if detach == "systemd-run":
        unit = f"--unit={label}-{name}"
        command = ["systemd-run", "--user", "--quiet", "--collect", unit, "--property=TimeoutStopSec=90", "--", *words]
    else:
        # A server for each collection: one that hangs, or is ended by hand, touches no other.
        session = name.replace(".", "_")  # tmux takes dots for marks
        command = ["tmux", "-L", label, "-f", "/dev/null", "new-session", "-d", "-s", session, *words]
    done = _run(command)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ConfigurationError(f"{command[0]} does not start {name}: {said[-1] if said else 'it says nothing'}")


def label_of(folder: Path) -> str:
    """The name of tmux's socket, and of units: of one collection on this machine."""
    return f"headrace-{hashlib.sha256(bytes(folder)).hexdigest()[:10]}"


def _why_no_systemd() -> str | None:
    """A clause, or None if it can be used."""
    if shutil.which("systemd-run") is None:
        return "there is no systemd-run"
    os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    if _run(["systemctl", "--user", "show-environment"]).returncode:
        return "this user has no systemd of its own"
    user = pwd.getpwuid(os.getuid()).pw_name
    if not (_LINGER / user).exists():
        return f"systemd would end this user's programs at logout (`loginctl enable-linger {user}` changes that)"
    return None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
    except FileNotFoundError as error:
        raise ConfigurationError(f"cannot run {command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"{command[0]} did not answer within {_LIMIT_S:.0f} s") from error
