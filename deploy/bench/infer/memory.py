"""What models cost a machine with eight planners: one server that all ask, or each with its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.infer.servers import infer_server
from deploy.processes import ProgramError

PLANNERS = 8


@dataclass(frozen=True)
class Memory:
    """Resident memory [MB], without what the same interpreter has without models: of the server, a client, a loader."""

    server_mb: float
    client_mb: float
    own_mb: float

    @property
    def share(self) -> float:
        """Server and clients, against planners that load the models themselves."""
        return (self.server_mb + PLANNERS * self.client_mb) / (PLANNERS * self.own_mb)


def measure_memory(models: Path, queries: Path, logs: Path) -> Memory:
    """The server is measured after eight clients have kept it busy for a while. Raises ProgramError."""
    with ExitStack() as running:
        bare = _resident(running.enter_context(_holding("inference.bench.own_models", ())))
        own = _resident(running.enter_context(_holding("inference.bench.own_models", (str(models),))))
        server, endpoint = running.enter_context(infer_server(models, logs))
        asking = ("producers.bench.queries", (endpoint, str(PLANNERS), "3", str(queries)))
        with _holding(*asking) as clients:
            assert clients.stdin
            clients.stdin.write(b"go\n")
            clients.stdin.flush()
            clients.wait(120)
        one = running.enter_context(_holding("producers.bench.queries", (endpoint, "1", "1", str(queries))))
        return Memory(_resident(server.process) - bare, max(_resident(one) - bare, 0.0), own - bare)


@contextmanager
def _holding(module: str, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that says `ready` and waits; ended with the block."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    try:
        said = b""
        while not said.endswith(b"ready\n"):
            line = process.stderr.readline()
            if not line:
                raise ProgramError(f"{module} failed: {said.decode(errors='replace').strip()[-300:]}")
            said += line
        yield process
    finally:
        process.kill()
        process.communicate()


def _resident(process: subprocess.Popen[bytes]) -> float:
    """[MB], VmRSS of proc(5)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6
