"""A real sshd on loopback for as long as a test needs it; each of its addresses is one machine of a small lab.

Nothing of an installed sshd is used but its program: own configuration, keys, port and known hosts. Every machine has
a home, a tmux and a mark of its own, which sshd gives to whoever logs in there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.processes import REPOSITORY, wait_until

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "tmux")
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)

GOOD = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
# Nobody listens; not among the known hosts; known with another key; takes no key; has no headrace; another release;
# one without `headrace host`.
CLOSED, UNKNOWN, CHANGED, LOCKED, EMPTY, SKEWED, OLD = (f"127.0.0.{number}" for number in range(4, 11))
LISTENING = (*GOOD, UNKNOWN, CHANGED, LOCKED, EMPTY, SKEWED, OLD)

_CONFIGURATION = """
{listen}
HostKey {root}/host_key
AuthorizedKeysFile {root}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 50
"""
_MACHINE = """
Match LocalAddress {address}
    SetEnv HOME="{home}" TMUX_TMPDIR={tmux} HEADRACE_TEST_HOST={root}/{address}
    AuthorizedKeysFile {authorized}
"""
_HEADRACE = """\
#!/bin/sh
export PYTHONPATH={paths}
exec {python} -W error -m deploy.main "$@"
"""
_OLD = """\
#!/bin/sh
echo "headrace: there is no command '$1'; expected one of: up, sink" >&2
exit 2
"""


def missing_programs() -> list[str]:
    """What has to be installed before there can be a lab."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


class Machines:
    """`start` and `stop`. port: of sshd on every address. root: a short path, for sockets of tmux are in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._sshd: subprocess.Popen[bytes] | None = None
        self._sweeper: subprocess.Popen[bytes] | None = None

    def home(self, host: str) -> Path:
        """With what shells and ssh would take apart."""
        return self.root / f"home of $(host) #{host}"

    def options(self) -> list[str]:
        """How ssh is told to know these machines, and to log in."""
        known, identity = f"UserKnownHostsFile={self.root}/known_hosts", f"IdentityFile={self.root}/id"
        return [known, identity, "IdentitiesOnly=yes"]

    def start(self) -> None:
        """Returns when sshd takes connections."""
        for name in ("host_key", "other_key", "id"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(self.root / "id.pub", self.root / "authorized_keys")
        self._write_known_hosts()
        for host in LISTENING:
            self._make_home(host)
        self._sweeper = subprocess.Popen(
            [sys.executable, "-m", "tests.ssh.machines", str(self.root)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it confines itself; a service manager makes it
        (self.root / "sshd_config").write_text(self._configuration())
        sshd = shutil.which("sshd", path=_PATH)
        assert sshd is not None
        with (self.root / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(self.root / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        wait_until(self._listens, f"sshd; its log is {self.root}/sshd.log")

    def stop(self) -> None:
        """End sshd and everything that was started through it."""
        if self._sshd is not None:
            self._sshd.kill()
            self._sshd.wait()
        if self._sweeper is not None:
            self._sweeper.communicate()

    def kill(self, host: str = "") -> int:
        """SIGKILL for all that runs on a machine, as if it lost its power; returns how many. Without a name: on all."""
        killed, deadline = 0, time.monotonic() + 20
        while pids := self.processes(host):
            assert time.monotonic() < deadline, f"{host} goes on: {pids}"
            killed += len(pids)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return killed

    def processes(self, host: str = "") -> list[int]:
        """What runs on a machine, or on all."""
        mark = f"HEADRACE_TEST_HOST={self.root}/{host}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has ended, or is somebody else's
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    if any(each == mark or (not host and each.startswith(mark)) for each in variables):
                        found.append(int(entry.name))
        return found

    def _configuration(self) -> str:
        listen = "\n".join(f"ListenAddress {host}:{self.port}" for host in LISTENING)
        text = _CONFIGURATION.format(listen=listen, root=self.root)
        for host in LISTENING:
            authorized = "none" if host == LOCKED else self.root / "authorized_keys"
            values = {"address": host, "home": self.home(host), "tmux": self.root / host, "root": self.root}
            text += _MACHINE.format(**values, authorized=authorized)
        return text

    def _make_home(self, host: str) -> None:
        command = self.home(host) / "bin" / "headrace"
        command.parent.mkdir(parents=True)
        (self.root / host).mkdir()
        if host == EMPTY:
            return
        paths = str(REPOSITORY)
        if host == SKEWED:  # an installation that says that it is another release
            other = self.home(host) / "other" / "headrace-9.9.9.dist-info"
            other.mkdir(parents=True)
            (other / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace\nVersion: 9.9.9\n")
            paths = f"'{other.parent}':{paths}"
        command.write_text(_OLD if host == OLD else _HEADRACE.format(paths=paths, python=sys.executable))
        command.chmod(0o755)

    def _write_known_hosts(self) -> None:
        keys = {
            name: " ".join((self.root / f"{name}.pub").read_text().split()[:2]) for name in ("host_key", "other_key")
        }
        lines = [
            f"[{host}]:{self.port} {keys['other_key' if host == CHANGED else 'host_key']}\n"
            for host in LISTENING
            if host != UNKNOWN
        ]
        (self.root / "known_hosts").write_text("".join(lines))

    def _listens(self) -> bool:
        assert self._sshd is not None
        assert self._sshd.poll() is None, (self.root / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex((LISTENING[-1], self.port)) == 0


if __name__ == "__main__":
    # Kept waiting by whoever started the machines: nothing of them outlives that process, however it ends.
    sys.stdin.read()
    Machines(Path(sys.argv[1])).kill()
