"""A collection of counted episodes on the test's Slurm: how it is submitted, looked at, and checked."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from deploy.main import main
from tests.fakes import CheckingReader
from tests.processes import wait_until
from tests.slurm.mini import MiniSlurm

TOPOLOGY = """
name = "counting"

[sink]
data = "{root}/data"
shard_mib = 1
memory_mib = 160
flags = {{ lease-s = 2.0, max-producers = 16 }}

[sink.resources]
cpus = 2
time_limit = "00:10:00"

[security]
keys = "{root}/keys"

[[producers]]
program = ["{python}", "-m", "tests.slurm.counting_worker", "{successes}", "{step_s}"]
count = 6

[producers.resources]
cpus = 1
memory_mib = 200
time_limit = "00:10:00"

[slurm]
partition = "{partition}"
extra = ["--comment=a test of #1"]
"""


class Submitted:
    """One topology file in a folder of its own."""

    def __init__(self, slurm: MiniSlurm, root: Path) -> None:
        self.slurm, self.root = slurm, root
        self.data, self.folder = root / "data", root / "data.collection"
        self.file = root / "topology.toml"

    def write(self, successes: int, step_s: float = 0.01, partition: str = "cpu") -> None:
        """The topology. successes: the goal. step_s: what a step of an episode takes [s]."""
        values = {"root": self.root, "python": sys.executable, "successes": successes, "step_s": step_s}
        self.file.write_text(TOPOLOGY.format(**values, partition=partition))

    def headrace(self, *words: str, status: int = 0) -> str:
        """Run the command as a user would; returns stdout, or stderr if it was to fail."""
        said, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            found = main(words)
        assert found == status, f"{words}: {found}\n{said.getvalue()}{complained.getvalue()}\n{self.logs()}"
        return complained.getvalue() if status else said.getvalue()

    def submit(self) -> dict[str, str]:
        """Returns the jobs' ids by name."""
        said = self.headrace("submit", str(self.file), "--slurm")
        lines = [line for line in said.splitlines() if ": job " in line]
        return {line.split(":")[0]: line.split(": job ")[1].split()[0] for line in lines}

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
        wait_until(lambda: stored.exists() and len(self.checked().indices) >= count, "episodes come", 60)

    def wait_for_producers(self, count: int) -> None:
        """Until so many are connected."""
        wait_until(lambda: len(self.status()["progress"]["producers"]) == count, f"{count} producers", 60)

    def logs(self) -> str:
        """Everything that jobs said."""
        files = sorted(self.folder.glob("logs/*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)
