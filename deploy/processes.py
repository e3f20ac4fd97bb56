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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import HeadraceError

STOP_LIMIT_S = 40.0
READY_LIMIT_S = 60.0
_USAGE_ERROR = 2
_TAIL_BYTES = 4096
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_READY = re.compile(r"READY: data .*, producers at (\S+), http (\S+)")
_INFERENCE_READY = re.compile(r"READY: planners at (\S+),")


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

    def last_line(self) -> str:
        """What it said last; empty if it has said nothing."""
        size = self.log.stat().st_size
        with self.log.open("rb") as file:
            file.seek(max(size - _TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

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


def start(name: str, words: Sequence[str], logs: Path, module: str = "deploy.main", nice: int = 0) -> Program:
    """Start `headrace WORDS` with this interpreter.

    module: another program, by the name of its module. nice: added to its niceness.
    """
    return start_program(name, [sys.executable, "-m", module, *words], logs, {}, nice)


def start_program(
    name: str, words: Sequence[str], logs: Path, environment: Mapping[str, str], nice: int = 0
) -> Program:
    """Start any program, in a process group of its own so that Ctrl-C reaches only us.

    environment: what it gets beside ours. Raises ProgramError if there is no such program.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    # Whether a sink that we start has keys, and which, is said by its topology and not by the user's shell.
    inherited = {key: value for key, value in os.environ.items() if key != "HEADRACE_KEY"}
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**inherited, **environment},
                start_new_session=True,
                preexec_fn=lambda: _prepare(nice),
            )
        except OSError as error:
            raise ProgramError(f"cannot start {words[0]}: {error.strerror}") from error
    return Program(name, process, log)


def _prepare(nice: int) -> None:
    """In the child: the kernel sends SIGTERM when we die, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.nice(nice)


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
    match = _wait_for(sink, _READY)
    return match[1], match[2]


def make_models(models: Path) -> None:
    """Publish untrained models, unless the directory is there. Raises ProgramError."""
    run_unless(models, ["models", "init", "--models", str(models)])


def run_unless(path: Path, words: Sequence[str]) -> None:
    """Run `headrace WORDS` to its end, unless the path is there. Raises ProgramError."""
    if path.exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "deploy.main", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ProgramError(done.stderr.strip())


def start_inference(models: Path, logs: Path) -> tuple[Program, str]:
    """Start an inference server on a free port and wait until it is ready; returns it and its endpoint.

    Raises ProgramError with the server's own words if it ends instead.
    """
    words = ["infer", "--models", str(models), "--bind", "tcp://127.0.0.1:0", "--http", "None"]
    program = start("infer", words, logs)
    return program, wait_inference(program)


def wait_inference(server: Program) -> str:
    """Wait until an inference server is ready; returns its endpoint. Raises ProgramError, as `start_inference`."""
    return _wait_for(server, _INFERENCE_READY)[1]


def _wait_for(program: Program, said: re.Pattern[str]) -> re.Match[str]:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        match = said.search(program.log.read_text(errors="replace"))
        if match:
            return match
        if not program.running:
            raise ProgramError(program.last_words())
        select.select([], [], [], 0.05)
    program.stop()
    raise ProgramError(f"{program.name} was not ready within {READY_LIMIT_S:.0f} s; its log is {program.log}")
