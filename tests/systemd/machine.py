"""A machine with systemd as its first process: namespaces of its own, and this machine's programs.

Only root can make one. /etc can be written and is thrown away, /var/lib and /var/cache are directories of the test,
/proc/sys cannot be written, and there is no network but loopback. Nothing of this machine's own systemd, if it has one,
is touched: control groups are a part of the tree that is made for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.processes import DEADLINE_S, REPOSITORY, wait_until

# The repository, packages and interpreter of this test as any user of the machine finds them.
PYTHON = "/mnt/python/bin/python3"
ENVIRONMENT = {"PYTHONPATH": "/mnt/headrace:/mnt/packages", "LD_LIBRARY_PATH": "/mnt/python/lib"}
PROGRAMS = ("unshare", "nsenter", "ip", "systemctl", "systemd-sysusers", "systemd-tmpfiles")
SYSTEMD = Path("/lib/systemd/systemd")
_TARGETS = ("sysinit", "basic", "shutdown", "umount", "multi-user", "network-online")
_GROUP = "headrace-test-"
# Each question is two programs, and the machine shares its processors with the units.
ASK_S = 0.5
_TELLING = "ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,ExecStart,NRestarts,StatusText"
_BOOT = """\
set -eu
mount --make-rprivate /
ip link set lo up
mount -t tmpfs tmpfs /mnt
for name in headrace packages python upper work dev dev/shm dev/pts dev/mqueue dev/hugepages; do mkdir /mnt/$name; done
mount --bind "$REPOSITORY" /mnt/headrace
mount --bind "$PACKAGES" /mnt/packages
mount --bind "$PREFIX" /mnt/python
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mount --bind "$STATE/lib" /var/lib
mount --bind "$STATE/cache" /var/cache
systemd-sysusers "$STATE/sysusers.d/headrace.conf"
mount -t tmpfs tmpfs /run
for name in null zero full random urandom tty; do
    touch /mnt/dev/$name
    mount --bind /dev/$name /mnt/dev/$name
done
mount -t devpts devpts /mnt/dev/pts
touch /mnt/dev/ptmx /mnt/dev/console
mount --bind /dev/ptmx /mnt/dev/ptmx
mount --bind "$STATE/console" /mnt/dev/console
mount --rbind /mnt/dev /dev
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -o bind,ro /proc/sys /proc/sys
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=headrace-test SYSTEMD_UNIT_PATH="$UNITS" \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
"""
# What a container may not be allowed.
_TRY = """\
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/group
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mount -t cgroup2 cgroup2 /mnt/group
"""


def missing() -> str:
    """Why none can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "only root can make namespaces for a systemd of its own"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking or not SYSTEMD.exists():
        return f"{', '.join(lacking) or SYSTEMD} is not installed; `make engines` installs it"
    if _cgroup_root() is None:
        return "there is no cgroup2 tree here"
    tried = subprocess.run(["unshare", *_NAMESPACES, "sh", "-c", _TRY], capture_output=True, text=True, check=False)
    return (tried.stderr.strip() or f"unshare ended with {tried.returncode}") if tried.returncode else ""


_NAMESPACES = ("--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net", "--mount-proc", "--kill-child")


def _cgroup_root() -> Path | None:
    """Where a new group can be made."""
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (root / "cgroup.controllers").exists() and os.access(root, os.W_OK):
            return root
    return None


def _sweep(root: Path) -> None:
    """End the machines of tests that were killed."""
    for group in root.glob(f"{_GROUP}*"):
        if not Path("/proc", group.name.removeprefix(_GROUP)).exists():
            (group / "cgroup.kill").write_text("1")
            wait_until(lambda group=group: _is_gone(group), f"{group} can be removed")  # type: ignore[misc]


def _is_gone(top: Path) -> bool:
    """Remove a control group with those in it; False while a process of it is still about to end."""
    groups = [top, *(path for path in top.rglob("*") if path.is_dir())]
    for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
        try:
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


class Machine:
    """Boots with `with`; leaving it ends every process in it."""

    def __init__(self, folder: Path, units: Path) -> None:
        """folder: for state and logs. units: *.service, *.target and sysusers.d of `headrace render systemd`."""
        self.state, self.units, self._folder = folder / "state", folder / "units", folder
        for name in ("lib", "cache", "log"):
            (self.state / name).mkdir(parents=True)
        shutil.copytree(units / "sysusers.d", self.state / "sysusers.d")
        (self.state / "console").touch()
        self.units.mkdir()
        for unit in [*units.glob("*.service"), *units.glob("*.target")]:
            shutil.copy(unit, self.units)
        for name in _TARGETS:
            (self.units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
        # There is no journal.
        self.override("service", "StandardOutput=append:/var/lib/log\nStandardError=append:/var/lib/log\n")
        root = _cgroup_root()
        assert root is not None
        self._group = root / f"{_GROUP}{os.getpid()}"

    def override(self, unit: str, lines: str) -> None:
        """Settings over those of a unit, or of all services."""
        (self.units / f"{unit}.d").mkdir(exist_ok=True)
        # One of the same name would hide that for all services.
        (self.units / f"{unit}.d" / f"{unit}.conf").write_text(f"[Service]\n{lines}")

    def __enter__(self) -> Machine:
        _sweep(self._group.parent)
        self._group.mkdir()
        variables = {"REPOSITORY": str(REPOSITORY), "STATE": str(self.state), "UNITS": str(self.units)}
        variables |= {"PACKAGES": sysconfig.get_path("purelib"), "PREFIX": sys.base_prefix}
        enter = f'echo $$ > {self._group}/cgroup.procs && exec unshare {" ".join(_NAMESPACES)} sh -c "$0"'
        with (self._folder / "boot.log").open("wb") as log:
            self._unshare = subprocess.Popen(
                ["sh", "-c", enter, _BOOT], env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_until(self._is_up, "systemd is up")
        except BaseException:
            sys.stderr.write(self.log())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        first = self._first()
        if first is not None:
            os.kill(first, signal.SIGKILL)  # and with it all processes of its namespace
        self._unshare.kill()
        self._unshare.wait(DEADLINE_S)
        wait_until(lambda: _is_gone(self._group), "the control groups can be removed")

    def log(self) -> str:
        """What systemd and the units said."""
        files = (self._folder / "boot.log", self.state / "console", self.state / "lib" / "log")
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')}" for file in files if file.exists())

    def systemctl(self, *words: str) -> str:
        """Run it in the machine. Raises AssertionError with what it said."""
        return self.run("systemctl", *words)

    def run(self, *words: str) -> str:
        """Run a program in the machine. Raises AssertionError with what it said."""
        enter = ["nsenter", "--target", str(self._first()), "--all", *words]
        done = subprocess.run(enter, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def shows(self, unit: str, key: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "--property", key, unit).strip()

    def wait_for(self, unit: str, key: str, value: str, deadline_s: float = DEADLINE_S) -> None:
        """Until a property has a value."""
        try:
            what = f"{key} of {unit} is {value}"
            wait_until(lambda: self.shows(unit, key) == value, what, deadline_s, ASK_S)
        except AssertionError as error:
            state = self.systemctl("show", "--property", _TELLING, unit)
            raise AssertionError(f"{error}\n{state}\n{self.log()}") from error

    def pid(self, unit: str) -> int:
        """Of a unit's main process, as this machine sees it."""
        wanted = self.shows(unit, "MainPID")
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = path.read_text().splitlines()
            except OSError:
                continue  # it has ended
            numbers = next(line.split()[1:] for line in lines if line.startswith("NSpid:"))
            if len(numbers) == 2 and numbers[1] == wanted and self._is_ours(int(numbers[0])):
                return int(numbers[0])
        raise AssertionError(f"{unit} has no process {wanted}")

    def _is_ours(self, pid: int) -> bool:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self._first()}/ns/pid")

    def _first(self) -> int | None:
        """The first process of the namespace."""
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        try:
            found = children.read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    def _is_up(self) -> bool:
        assert self._unshare.poll() is None, f"it ended\n{self.log()}"
        first = self._first()
        if first is None or Path(f"/proc/{first}/comm").read_text().strip() != "systemd":
            return False
        enter = ["nsenter", "--target", str(first), "--all", "systemctl", "is-active", "basic.target"]
        return subprocess.run(enter, capture_output=True, check=False).returncode == 0
