"""A real Slurm on this machine for as long as a test needs it: munged, slurmctld and three slurmd in a scratch folder.

Nothing of an installed Slurm is used but its programs: own configuration, key, socket, ports and state, all on
loopback, no service manager. Nodes n1, n2 and n3 are three slurmd on one host; each claims to have four cores.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.processes import REPOSITORY, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2", "n3")
# Where Debian puts daemons, which is not in everyone's PATH.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)

_CONFIGURATION = """
ClusterName=mini
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2,sched_min_interval=0
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
SlurmdTimeout=30
KillWait=20
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=cpu Nodes=n1,n2,n3 Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """What has to be installed before there can be a cluster."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    try:
        for each in with_ports:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in with_ports]
    finally:
        for each in with_ports:
            each.close()


@dataclass
class MiniSlurm:
    """`start` and `stop`. environment: what makes Slurm's commands speak to this cluster.

    The daemons die with the process that started them; jobs are swept away by a process that waits for its end.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _sweeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when all three nodes are idle."""
        self._sweeper = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.mini", str(self.root)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        host = socket.gethostname().split(".")[0]
        controller, *ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000"
            for name, port in zip(NODES, ports, strict=True)
        )
        text = _CONFIGURATION.format(root=self.root, controller=controller, user=getpass.getuser(), nodes=nodes)
        (self.root / "slurm.conf").write_text(text)
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        self.environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(self.root / "slurm.conf")}
        self._start_munge(key)
        self._start("slurmctld", "slurmctld", "-D", "-c", "-f", self.environment["SLURM_CONF"])
        for name in NODES:
            self.start_node(name)
        self.wait_for_nothing()

    def stop(self) -> None:
        """End every daemon, and what still runs of their jobs."""
        for process in self.daemons.values():
            process.kill()
            process.wait()
        if self._sweeper is not None:
            self._sweeper.communicate()

    def sweep(self) -> None:
        """End what is left of jobs on every node."""
        for name in NODES:
            self.kill_node(name)

    def start_node(self, name: str) -> None:
        """One slurmd."""
        self._start(name, "slurmd", "-D", "-N", name, "-f", self.environment["SLURM_CONF"])

    def kill_node(self, name: str) -> None:
        """SIGKILL for a slurmd and everything that runs on its node, like a machine that loses its power."""
        process = self.daemons.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 20
        while pids := self._processes_of(name):
            assert time.monotonic() < deadline, f"{name} goes on: {pids}"
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def restore_node(self, name: str) -> None:
        """Of one that was killed; returns when it takes jobs again."""
        self.start_node(name)

        def well() -> bool:
            if self._node_state(name) in ("idle", "mix", "alloc"):
                return True
            # Refused where it has come back by itself meanwhile.
            self.run("scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
            return False

        wait_until(well, f"{name} is well again", 60)

    def _node_state(self, name: str) -> str:
        return self.run("sinfo", "--noheader", f"--nodes={name}", "--format=%t", check=False).strip()

    def cancel_all(self) -> None:
        """Every job there is."""
        self.run("scancel", "--quiet", f"--user={getpass.getuser()}", check=False)

    def wait_for_nothing(self) -> None:
        """Until all nodes are idle: nothing of any job is left."""
        wait_until(self._all_idle, f"idle nodes; logs are in {self.root}", 60)

    def run(self, *words: str, check: bool = True) -> str:
        """One of Slurm's commands; returns what it printed."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 or not check, f"{words}: {done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """State of every job and array task that the controller remembers, by id."""
        lines = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def starts_in(self, job: str) -> float:
        """How long a job that waits for its time still has to [s]; 0 for one that does not."""
        words = ("squeue", "--noheader", "--array", f"--jobs={job}", "--states=PENDING", "--format=%r %S")
        reason, _, when = self.run(*words, check=False).strip().partition(" ")
        if reason != "BeginTime" or not when[:1].isdigit():
            return 0.0
        return datetime.fromisoformat(when).timestamp() - time.time()

    def longest_run_s(self) -> float:
        """How long the job that has run for longest has [s]; 0 where none runs."""
        starts = self.run("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%S").split()
        return max((time.time() - datetime.fromisoformat(start).timestamp() for start in starts), default=0.0)

    def _start_munge(self, key: Path) -> None:
        files = [f"--{name}-file={self.root}/munge.{name}" for name in ("pid", "log", "seed")]
        sock = self.root / "munge.sock"
        self._start("munged", "munged", "-F", "--force", f"--key-file={key}", f"--socket={sock}", *files)
        wait_until(sock.exists, f"munged; its log is in {self.root}")

    def _start(self, name: str, *words: str | Path) -> None:
        with (self.root / f"{name}.out").open("ab") as file:
            self.daemons[name] = subprocess.Popen(
                [*map(str, words)],
                env={**self.environment, "HEADRACE_TEST_NODE": f"{self.root}/{name}"},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    def _all_idle(self) -> bool:
        for name, process in self.daemons.items():
            assert process.poll() is None, f"{name} ended: {(self.root / f'{name}.out').read_text()[-2000:]}"
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %t", check=False).splitlines()
        return sorted(lines) == [f"{name} idle" for name in NODES]

    def _processes_of(self, node: str) -> list[int]:
        """slurmstepd of a node, and the jobs below it."""
        return [pid for pid in _all_pids() if self._belongs(pid, node)]

    def _belongs(self, pid: int, node: str) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False
        if f"HEADRACE_TEST_NODE={self.root}/{node}".encode() in environment:
            return True  # slurmstepd, which inherits it from its slurmd
        ours = f"SLURM_CONF={self.root}/slurm.conf".encode() in environment
        return ours and f"SLURMD_NODENAME={node}".encode() in environment


def _all_pids() -> Sequence[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


if __name__ == "__main__":
    sys.stdin.read()  # its end: the cluster was stopped, or whoever started it is gone
    MiniSlurm(Path(sys.argv[1])).sweep()
