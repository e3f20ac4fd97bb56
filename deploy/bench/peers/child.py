"""A peer's process: started in a group of its own, heard with a deadline, and ended with everything it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from deploy.bench.peers.plan import PeerError

_REASON_CHARACTERS = 300


class Child:
    """One process. `with` kills its group, however the body ends."""

    def __init__(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, talks: bool = True
    ) -> None:
        """log: where its stderr goes, and its stdout too unless it `talks` to us by that."""
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                list(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else file,
                stderr=file,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait."""
        with suppress(ProcessLookupError):  # it has ended, and all that it started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def line(self, limit_s: float) -> str:
        """The next line on stdout. Raises PeerError if it does not come in time, or the process ends badly."""
        assert self._process.stdout
        ends = time.monotonic() + limit_s
        text, said = b"", select.poll()
        said.register(self._process.stdout, select.POLLIN)
        while not text.endswith(b"\n"):
            left = ends - time.monotonic()
            if left <= 0 or not said.poll(left * 1000):
                raise PeerError(f"it had not ended after {limit_s:.3g} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise PeerError(self._last_words())
            text += piece
        return text.decode(errors="replace").strip()

    def tell(self, line: str) -> None:
        """Write a line to its stdin. Raises PeerError if it has ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(self._last_words()) from error

    def wait(self, limit_s: float) -> None:
        """Until it has ended well. Raises PeerError if it does not."""
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"it had not ended after {limit_s:.3g} s") from error
        if status:
            raise PeerError(self._last_words())

    def _last_words(self) -> str:
        status = self._process.wait()
        said = condensed(self._log.read_text(errors="replace"))
        return said or f"it ended with status {status} and no word"


def run(words: Sequence[str], log: Path, limit_s: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that prints one line; returns the line. Raises PeerError."""
    with Child(words, log, environment) as child:
        return child.line(limit_s)


def condensed(said: str) -> str:
    """The line of a program's last words that gives the reason: an error, or else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [""])[-1][:_REASON_CHARACTERS]
