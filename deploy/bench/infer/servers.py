"""Starting what is measured, and waiting until it answers."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.bench.peers.child import Child as PeerChild
from deploy.bench.peers.plan import PeerError
from deploy.processes import Program, ProgramError, start

_READY = re.compile(r"READY: planners at (\S+), http (\S+),")
_LIMIT_S = 120.0


@contextmanager
def infer_server(models: Path, logs: Path, words: Sequence[str] = ()) -> Iterator[tuple[Program, str]]:
    """`headrace infer` on free ports, warm; yields it and its endpoint. Raises ProgramError."""
    flags = ["--models", str(models), "--bind", "tcp://127.0.0.1:0", "--http", "None", "--device", "cpu", *words]
    program = start("infer", ["infer", *flags], logs)
    try:
        yield program, _endpoint(program)
    finally:
        program.stop()


@contextmanager
def small_server(logs: Path, threads: int) -> Iterator[str]:
    """The server with the small model; yields its endpoint. Raises ProgramError."""
    program = start("small", ["tcp://127.0.0.1:0", str(threads)], logs, "inference.bench.small_server")
    try:
        yield _endpoint(program)
    finally:
        program.stop()


@contextmanager
def peer_server(words: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Another server, once it listens on its port. Raises PeerError."""
    with PeerChild(words, log, environment, talks=False):
        ends = time.monotonic() + _LIMIT_S
        while not _listens(port):
            if time.monotonic() > ends:
                raise PeerError(f"it did not listen on port {port} within {_LIMIT_S:.0f} s; its log is {log}")
            time.sleep(0.1)
        yield


def run_python(module: str, words: Sequence[str]) -> str:
    """What a program of ours prints. Raises ProgramError."""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramError(f"{module} failed: {' '.join(done.stderr.strip().splitlines()[-2:])}")
    return done.stdout


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _endpoint(program: Program) -> str:
    ends = time.monotonic() + _LIMIT_S
    while time.monotonic() < ends:
        if match := _READY.search(program.log.read_text(errors="replace")):
            return match[1]
        if not program.running:
            raise ProgramError(program.last_words())
        select.select([], [], [], 0.05)
    raise ProgramError(f"the server was not ready within {_LIMIT_S:.0f} s; its log is {program.log}")
