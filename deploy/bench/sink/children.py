"""Programs that a measurement starts: they say when they are ready, and wait for the word to go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.processes import ProgramError

READY_LIMIT_S = 60.0
RUN_LIMIT_S = 300.0


class Child:
    """`python -m MODULE WORDS`; its stdout is its result, its stderr goes to a file."""

    def __init__(self, module: str, words: Sequence[str], log: Path) -> None:
        self.name, self.log = module, log
        with log.open("wb") as file:
            command = [sys.executable, "-m", module, *words]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)

    def wait_ready(self) -> None:
        """Until it has said `ready`. Raises ProgramError."""
        deadline = time.monotonic() + READY_LIMIT_S
        while "ready\n" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{self.name} did not become ready: {self._last_words()}")
            time.sleep(0.02)

    def first_line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def result(self) -> Any:
        """What it printed, as JSON, once it has ended well. Raises ProgramError."""
        return json.loads(self.ended_well())

    def ended_well(self) -> str:
        """Wait for its end; returns what it printed. Raises ProgramError if it failed."""
        try:
            text, _ = self.process.communicate(timeout=RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self.name} did not end within {RUN_LIMIT_S:.0f} s; its log is {self.log}") from None
        if self.process.returncode:
            raise ProgramError(f"{self.name} failed: {self._last_words()}")
        return text

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])


@contextmanager
def children() -> Iterator[list[Child]]:
    """A list of children; all of them are ended when the block is left."""
    started: list[Child] = []
    try:
        yield started
    finally:
        for child in started:
            child.kill()
