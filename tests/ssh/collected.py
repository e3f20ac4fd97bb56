"""A collection of counted episodes on the test's machines: how it is submitted, looked at, and checked."""

from __future__ import annotations

import io
import json
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from deploy.main import main
from tests.fakes import CheckingReader
from tests.processes import REPOSITORY, wait_until
from tests.ssh.machines import Machines

TOPOLOGY = """
name = "counting"

[sink]
data = "the data"
shard_mib = 1
memory_mib = 160
flags = {{ lease-s = 2.0, max-producers = 16 }}

[security]
keys = "keys"

[[producers]]
program = ["{python}", "-m", "tests.slurm.counting_worker", "{successes}", "{step_s}"]
count = {count}

[ssh]
port = {port}
options = {options}
headrace = "~/bin/headrace"
connect_timeout_s = 5
setup = [{setup}]
{more}
"""


class Collected:
    """One topology file, submitted from a folder of its own."""

    def __init__(self, machines: Machines, root: Path) -> None:
        self.machines, self.root = machines, root
        self.file = root / "topology.toml"

    def write(self, successes: int, step_s: float = 0.01, count: int = 4, more: str = "") -> None:
        """The topology. successes: the goal. step_s: what a step of an episode takes [s]. count: of producers.

        more: of [ssh].
        """
        text = TOPOLOGY.format(
            python=sys.executable,
            successes=successes,
            step_s=step_s,
            count=count,
            port=self.machines.port,
            options=json.dumps(self.machines.options()),
            setup=json.dumps(f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}"),
            more=more,
        )
        self.file.write_text(text)

    def workdir(self, host: str) -> Path:
        """Where programs run on a machine, if it shares no folder."""
        return self.machines.home(host) / "headrace" / "counting"

    def headrace(self, *words: str, status: int = 0) -> str:
        """Run the command as a user would; returns stdout, or stderr if it was to fail."""
        said, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            found = main(words)
        assert found == status, f"{words}: {found}\n{said.getvalue()}{complained.getvalue()}"
        return complained.getvalue() if status else said.getvalue()

    def submit(self, *hosts: str, status: int = 0) -> str:
        """Returns what was said."""
        return self.headrace("submit", str(self.file), "--hosts", ",".join(hosts), status=status)

    def status(self) -> dict[str, Any]:
        """`headrace status --json`."""
        found: dict[str, Any] = json.loads(self.headrace("status", str(self.file), "--json"))
        return found

    def states(self) -> dict[str, str]:
        """Of all programs."""
        return {job["name"]: job["state"] for job in self.status()["jobs"]}

    def wait_for_episodes(self, data: Path, count: int) -> None:
        """Until so many are committed."""
        stored = data / "tests" / "counting"
        wait_until(lambda: stored.exists() and len(CheckingReader(data).indices) >= count, "episodes come", 60)

    def producers_of(self, data: Path) -> set[str]:
        """Those of which something is stored."""
        stored = data / "tests" / "counting"
        return {each.producer for each in CheckingReader(data).stored.values()} if stored.exists() else set()
