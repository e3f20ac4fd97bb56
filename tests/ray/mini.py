"""A real Ray on this machine for as long as a test needs it: a head and two more raylets, each a node of its own.

Nothing is reached but loopback; whoever else can reach the ports has not the token. Nodes have addresses 127.0.0.N, few
logical cores and a small object store. Whatever a node starts has its mark in the environment, and is found by it.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import REPOSITORY, wait_until

HEAD = "n2"
NODES = (HEAD, "n3", "n4")
# Any node has room for the sink and all producers of a test: a lost sink needs it, and Ray gives it to nobody first.
CPUS = 5
_MARK = "HEADRACE_TEST_RAY"
_STARTED = "Ray runtime started"
# Ray itself gives up a raylet that takes longer than 30 s to start; a busy machine has another go.
_TRIES = 3
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)
# A node that does not answer is lost after two seconds instead of half a minute.
_HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}


@dataclass
class MiniRay:
    """`start` and `stop`. environment: what a driver needs to be let in. address: of the head."""

    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hray-")))  # short: it has sockets
    environment: dict[str, str] = field(default_factory=dict)
    address: str = ""
    _nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Returns when all nodes are up."""
        gcs, client_server = _free_ports(2)
        self.address = f"127.0.0.2:{gcs}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HEADRACE_"))},
            **_HEALTH,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",  # for the cores that nodes only claim to have
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
        }
        ports = ("--port", str(gcs), "--ray-client-server-port", str(client_server))
        folder = ("--temp-dir", str(self.root / "t"))
        self._start(HEAD, "--head", *ports, *folder, "--include-dashboard", "false", "--no-monitor")
        for name in NODES[1:]:
            self._start(name, "--address", self.address, "--labels", "dataset=here")

    def stop(self) -> None:
        """End every process of every node."""
        for name in NODES:
            self._sweep(name)
        for process in self._nodes.values():
            process.wait()
        shutil.rmtree(self.root)

    def kill_raylet(self, name: str) -> None:
        """SIGKILL for one process, the raylet; all others of its node have to find out by themselves."""
        words = f"/raylet --raylet_socket_name={self.root}".encode()
        found = [pid for pid in self.processes(name) if words in read(pid, "cmdline").replace(b"\0", b" ")]
        assert len(found) == 1, f"expected one raylet of {name}, found {found}"
        os.kill(found[0], signal.SIGKILL)

    def processes(self, name: str) -> list[int]:
        """Everything that a node has started and that is still there."""
        mark = f"{_MARK}={self.root}/{name}".encode()
        pids = [int(each) for each in os.listdir("/proc") if each.isdigit()]
        return [pid for pid in pids if mark in read(pid, "environ").split(b"\0")]

    def programs(self, name: str) -> list[str]:
        """Command lines of what actors have started on a node, guards included."""
        lines = [read(pid, "cmdline").replace(b"\0", b" ").decode() for pid in self.processes(name)]
        return [line for line in lines if "deploy." in line or "counting_worker" in line]

    def run(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A Python program that may join the cluster."""
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=REPOSITORY,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def _start(self, name: str, *words: str) -> None:
        for _ in range(_TRIES):
            if self._try_to_start(name, *words):
                return
            self._sweep(name)
        raise AssertionError(f"{name} does not come up: {self._log(name).read_text()[-3000:]}")

    def _try_to_start(self, name: str, *words: str) -> bool:
        with self._log(name).open("wb") as file:
            process = self._nodes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *words),
                    *("--node-ip-address", f"127.0.0.{name[1:]}", "--num-cpus", str(CPUS), "--memory", str(2 << 30)),
                    *("--object-store-memory", str(80 << 20), "--dashboard-agent-listen-port", "0"),
                    *("--min-worker-port", "0", "--max-worker-port", "0", "--include-log-monitor", "false"),
                ],
                env={**self.environment, _MARK: f"{self.root}/{name}"},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
            )
        wait_until(lambda: _STARTED in self._log(name).read_text() or process.poll() is not None, f"{name} is up", 180)
        return process.poll() is None

    def _log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def _sweep(self, name: str) -> None:
        def gone() -> bool:
            if name in self._nodes:
                self._nodes[name].poll()
            pids = self.processes(name)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(gone, f"nothing of {name} is left")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.2", 0))
        return [int(each.getsockname()[1]) for each in found]


def read(pid: int, what: str) -> bytes:
    """A file of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
