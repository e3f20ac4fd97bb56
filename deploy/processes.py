"""Starting and stopping programs of Headrace as child processes."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import HeadraceError

STOP_LIMIT_S = 40.0
READY_LIMIT_S = 60.0
_USAGE_ERROR = 2
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_READY = re.compile(r"READY: data .*, producers at (\S+), http (\S+)")


class ProgramError(HeadraceError):
    """A program that was started ended badly."""


@dataclass
class Program:
    """One running program; its stderr goes to a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    _asked: bool = False

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log: its error, or the whole box that says which flag is wrong."""
        lines = 12 if self.process.poll() == _USAGE_ERROR else 2
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])

    def anonymous_mb(self) -> float:
        """Its own memory [MB], without the files it has mapped: RssAnon of proc(5). 0 if it has ended."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except FileNotFoundError:
            return 0.0
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:")), 0.0)

    def ask_to_stop(self) -> None:
        """Ask it to end cleanly, once: a second signal would end it at once."""
        if self.running and not self._asked:
            self._asked = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to end cleanly and wait; returns its exit status."""
        self.ask_to_stop()
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def start(name: str, words: Sequence[str], logs: Path, module: str = "deploy.main") -> Program:
    """Start `headrace WORDS` with this interpreter, in a process group of its own so that Ctrl-C reaches only us.

    module: another program, by the name of its module.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Whether a sink that we start has keys, and which, is said by its topology and not by the user's shell.
            env={name: value for name, value in os.environ.items() if name != "HEADRACE_KEY"},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    return Program(name, process, log)


def _end_with_parent() -> None:
    """In the child: the kernel sends SIGTERM when we die, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start_sink(data: Path, logs: Path, words: Sequence[str] = ()) -> tuple[Program, str, str]:
    """Start a sink on free ports and wait until it is ready; returns it, its endpoint and its HTTP address.

    Raises ProgramError with the sink's own words if it ends instead.
    """
    ports = () if "--bind" in words else ("--bind", "tcp://127.0.0.1:0")
    http = () if "--http" in words else ("--http", "127.0.0.1:0")
    program = start("sink", ["sink", "--data", str(data), *ports, *http, *words], logs)
    return program, *wait_ready(program)


def wait_ready(sink: Program) -> tuple[str, str]:
    """Wait until a sink is ready; returns its endpoint and its HTTP address. Raises ProgramError, as `start_sink`."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        match = _READY.search(sink.log.read_text(errors="replace"))
        if match:
            return match[1], match[2]
        if not sink.running:
            raise ProgramError(sink.last_words())
        select.select([], [], [], 0.05)
    sink.stop()
    raise ProgramError(f"the sink was not ready within {READY_LIMIT_S:.0f} s; its log is {sink.log}")
