"""Three hosts for a test: starts the wire between them, cuts it, and says how to run a program on a host."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from types import TracebackType

import pytest

from tests.hosts.wire import NETWORK, WireConfig
from tests.processes import DEADLINE_S, REPOSITORY

TOOLS = ("ip", "nsenter", "setpriv")


class Network:
    """Hosts 0, 1, 2 … Ends with `with`, or with this process. Skips the test where there can be none."""

    def __init__(self, config: WireConfig) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"no network namespaces here: {missing[0]} is not installed")
        self.config = config
        self._wire = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.hosts.wire", json.dumps(asdict(config))],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._hear()
        if "refused" in said:
            self._end()
            pytest.skip(f"no network namespaces here (root is needed): {said['refused']}")
        self._namespaces: list[int] = said["namespaces"]

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def address(self, host: int) -> str:
        """Its IP address."""
        return f"{NETWORK}.{host + 1}"

    def on(self, host: int) -> tuple[str, ...]:
        """What to put before a command, so that it runs there; it ends with this process."""
        namespace = f"--net=/proc/{self._wire.pid}/fd/{self._namespaces[host]}"
        return ("nsenter", namespace, "setpriv", "--pdeathsig", "KILL")

    def cut(self, host: int) -> None:
        """Every packet from and to a host vanishes, also those under way."""
        self._ask(f"cut {host}")

    def join(self, host: int) -> None:
        """The host is back."""
        self._ask(f"join {host}")

    def counts(self) -> dict[str, int]:
        """Packets so far, and how many of them were lost, cut or did not fit into a queue."""
        return self._ask("count")

    def _ask(self, line: str) -> dict[str, int]:
        assert self._wire.stdin is not None
        self._wire.stdin.write(line + "\n")
        self._wire.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, int]:
        assert self._wire.stdout is not None
        line = self._wire.stdout.readline()
        assert line, f"the wire ended with {self._wire.wait(DEADLINE_S)}"
        return json.loads(line)

    def _end(self) -> None:
        assert self._wire.stdin is not None
        assert self._wire.stdout is not None
        self._wire.stdin.close()
        self._wire.stdout.close()
        assert self._wire.wait(DEADLINE_S) == 0, "the wire failed"
