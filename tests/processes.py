"""Real programs as child processes, with what they said kept for the message of a failed test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).parents[1]
DEADLINE_S = 30.0


def wait_until(
    condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S, every_s: float = 0.01
) -> None:
    """Poll until it holds, or fail and say what did not happen. every_s: longer where asking costs much."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"did not happen within {deadline_s} s: {what}"
        time.sleep(every_s)


class Process:
    """A Python program. `with` kills it if it still runs."""

    def __init__(self, *arguments: str | Path, on: Sequence[str] = ()) -> None:
        """on: what runs the program somewhere else, put before it."""
        self.lines: list[str] = []
        self.child = subprocess.Popen(
            [*on, sys.executable, "-W", "error", *map(str, arguments)],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        if kind is not None:
            print("\n".join(self.lines), file=sys.stderr)  # noqa: T201 -- shown with the failed test

    def _read(self) -> None:
        assert self.child.stderr is not None
        with self.child.stderr:
            for line in self.child.stderr:
                self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        """Everything that was written to stderr."""
        return "\n".join(self.lines)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stderr."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for line in list(self.lines) if (match := re.search(pattern, line)))
            assert found or self.child.poll() is None or self._reader.is_alive(), f"ended: {self.output}"
            return bool(found)

        wait_until(look, f"{pattern!r} on stderr; said:\n{self.output}")
        return found[-1]

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
        self.child.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.child.terminate()
        return self.wait()

    def wait(self) -> int:
        """Returns the exit status."""
        status = self.child.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status

    def memory(self, field: str = "RssAnon") -> int:
        """A line of /proc/PID/status, in bytes."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]


class SinkProcess(Process):
    """`python -m sink`, ready to take producers."""

    def __init__(self, data: Path, *flags: str, bind: str = "tcp://127.0.0.1:0", http: str = "127.0.0.1:0") -> None:
        small = ("--shard-mib", "1", "--memory-mib", "160", "--max-producers", "16", "--lease-s", "2")
        super().__init__("-m", "sink", "--data", data, "--bind", bind, "--http", http, *small, *flags)

    def ready(self) -> SinkProcess:
        """Wait for READY; sets `endpoint` and `http`."""
        match = self.says(r"READY: data .*, producers at (\S+), http (\S+)")
        self.endpoint, self.http = match[1], match[2]
        return self

    @staticmethod
    def signalled(status: int) -> bool:
        """The process was ended by a signal."""
        return status < 0 or os.WIFSIGNALED(status)
