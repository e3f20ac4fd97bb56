"""mosec and LitServe with the small model, each in a virtual environment of its own, in turns with ours.

All are sent the same queries, read them, draw the same masks, run the same network with the same number of threads, the
same largest batch and the same longest wait, and write the same answers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench.infer.servers import free_port, peer_server, run_python, small_server
from deploy.bench.peers.child import Child
from deploy.bench.peers.plan import PeerError

PEERS = ("mosec", "litserve")
_PACKAGES = {"mosec": ("mosec>=0.9.8,<0.10",), "litserve": ("litserve>=0.2.19,<0.3",)}
# What reading a query, drawing its masks and the network take.
_NEEDED = ("torch==2.13.0", "numpy", "scipy", "msgspec")
_INSTALL_LIMIT_S = 900.0
_WAIT_MS = 5
_WARM_S = 1.0
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Turn:
    """One measurement of one server."""

    per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Compared:
    """Turns of ours and of a peer, in the order they were taken."""

    peer: str
    ours: list[Turn]
    theirs: list[Turn]


@dataclass(frozen=True)
class PeerBench:
    """scratch: for logs. environments: where virtual environments are kept. queries: file of the load."""

    scratch: Path
    environments: Path
    queries: Path
    rounds: int
    seconds: float
    threads: int
    say: Callable[[str], None]

    def compare(self, peer: str) -> Compared:
        """Raises PeerError with the reason if the peer cannot be measured."""
        python = self._prepare(peer)
        port = free_port()
        log = self.scratch / f"{peer}.log"
        words, path = self._words(peer, str(python), port)
        ours: list[Turn] = []
        theirs: list[Turn] = []
        with small_server(self.scratch, self.threads) as endpoint, peer_server(words, port, log, self._environment()):
            for _ in range(self.rounds):
                ours.append(self._turn(endpoint, False))
                theirs.append(self._turn(f"http://127.0.0.1:{port}/{path}", peer == "litserve"))
        return Compared(peer, ours, theirs)

    def _turn(self, address: str, as_json: bool) -> Turn:
        load = {"address": address, "queries": str(self.queries), "as_json": as_json}
        words = json.dumps({**load, "warm_s": _WARM_S, "seconds": self.seconds})
        found: dict[str, Any] = json.loads(run_python("deploy.bench.infer.load", [words]))
        return Turn(**found)

    def _words(self, peer: str, python: str, port: int) -> tuple[Sequence[str], str]:
        module = f"inference.bench.{peer}_program"
        if peer == "mosec":
            return [python, "-m", module, "--address", "127.0.0.1", "--port", str(port)], "inference"
        return [python, "-m", module, str(port), str(self.threads), str(_WAIT_MS)], "predict"

    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(_ROOT), "SMALL_THREADS": str(self.threads), "SMALL_WAIT_MS": str(_WAIT_MS)}
        return {**os.environ, **own}

    def _prepare(self, peer: str) -> Path:
        """Make the environment, or take the one that is there; returns its Python."""
        folder = self.environments / peer
        folder.mkdir(parents=True, exist_ok=True)
        python, ends = folder / "venv" / "bin" / "python", time.monotonic() + _INSTALL_LIMIT_S
        imports = [str(python), "-c", f"import {peer}, torch, numpy, scipy, msgspec"]
        if python.exists() and self._works(imports, folder):
            return python
        self.say(f"making a virtual environment for {peer} …")
        self._run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], folder, ends)
        self._run([str(python), "-m", "pip", "install", "--quiet", *_NEEDED, *_PACKAGES[peer]], folder, ends)
        self._run(imports, folder, ends)
        return python

    def _works(self, words: Sequence[str], folder: Path) -> bool:
        try:
            self._run(words, folder, time.monotonic() + 60)
        except PeerError:
            return False
        return True

    def _run(self, words: Sequence[str], folder: Path, ends: float) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        with Child(words, folder / "setup.log", kept, talks=False) as child:
            child.wait(max(ends - time.monotonic(), 0.0))
