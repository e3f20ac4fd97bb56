"""A collection of counted episodes on the test's Ray: how it is submitted, looked at, and checked."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.fakes import CheckingReader
from tests.processes import wait_until
from tests.ray.mini import MiniRay, read

PRODUCERS = 4
TOPOLOGY = """
name = "counting"

[sink]
data = "{root}/data"
shard_mib = 1
memory_mib = 160
flags = {{ lease-s = 2.0, max-producers = 16 }}

[sink.resources]
cpus = 1
memory_mib = 300

[security]
keys = "{root}/keys"

[[producers]]
program = ["{python}", "-m", "tests.slurm.counting_worker", "{successes}", "{step_s}"]
count = {count}

[producers.resources]
memory_mib = 200

[ray]
address = "{address}"

[ray.servers]
labels = {{ dataset = "here" }}
{more}
"""


class Submitted:
    """One topology file in a folder of its own."""

    def __init__(self, ray: MiniRay, root: Path) -> None:
        self.ray, self.root = ray, root
        self.data, self.folder = root / "data", root / "data.collection"
        self.file = root / "topology.toml"

    def write(self, successes: int, step_s: float = 0.01, address: str | None = None, more: str = "") -> None:
        """The topology. successes: the goal. step_s: what a step of an episode takes [s]. more: lines at its end."""
        values = {"root": self.root, "python": sys.executable, "successes": successes, "step_s": step_s, "more": more}
        self.file.write_text(TOPOLOGY.format(**values, count=PRODUCERS, address=address or self.ray.address))

    def headrace(self, *words: str, status: int = 0) -> str:
        """Run the command as a user would; returns stdout, or stderr if it was to fail."""
        done = self.ray.run("-m", "deploy.main", *words)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stderr if status else done.stdout

    def submit(self) -> str:
        """Returns what is said."""
        return self.headrace("submit", str(self.file), "--ray")

    def status(self) -> dict[str, Any]:
        """`headrace status --json`."""
        found: dict[str, Any] = json.loads(self.headrace("status", str(self.file), "--json"))
        return found

    def checked(self) -> CheckingReader:
        """All that is stored, compared with what it must be by raw h5py; an index that is there twice fails."""
        return CheckingReader(self.data)

    def wait_for_episodes(self, count: int) -> None:
        """Until so many are committed."""
        stored = self.data / "tests" / "counting"
        wait_until(lambda: stored.exists() and len(self.checked().indices) >= count, "episodes come", 240)

    def report(self, actor: str) -> dict[str, Any]:
        """What an actor last said of itself; empty if it has not begun."""
        path = self.folder / "actors" / f"{actor}.json"
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def kill_program(self, actor: str) -> None:
        """SIGKILL for the program of an actor, which Ray knows nothing of."""
        node = self.report(actor)["node"].replace("127.0.0.", "n")
        for pid in self.ray.processes(node):
            if f"HEADRACE_NAME={actor}".encode() in read(pid, "environ") and b"deploy." not in read(pid, "cmdline"):
                os.kill(pid, signal.SIGKILL)

    def wait_for_end(self) -> None:
        """Until the conductor has seen all others end."""
        wait_until(lambda: self.report("conductor")["state"] != "RUNNING", "the collection ends by itself", 300)

    def logs(self) -> str:
        """Everything that actors and programs said."""
        files = sorted(self.folder.glob("logs/*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)
