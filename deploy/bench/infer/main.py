"""`headrace bench infer`: every figure of the inference server in one run.

Ratios are taken in turns, round by round; the figure is the median of the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from rich.console import Console

from deploy.bench.figures import Figure, table, write_json
from deploy.bench.infer.memory import measure_memory
from deploy.bench.infer.peers import PEERS, PeerBench
from deploy.bench.infer.servers import infer_server, run_python
from deploy.bench.peers.plan import PeerError
from deploy.bench.sink.children import Child, children
from protocol.errors import ConfigurationError

_FILE_WIDTH = 120
_CLIENTS = 16
_QUERIES = 64
# Each batch size of the loop gets this part of a measurement's time.
_LOOP_PARTS = 8
PARTS = ("loop", *PEERS, "memory", "overload")


@dataclass(frozen=True)
class InferBenchFlags:
    """Measure the inference server against its model alone and against other servers, its memory, and overload."""

    only: tuple[str, ...] = PARTS
    """Measure these parts only: loop, mosec, litserve, memory, overload."""
    rounds: int = 5
    """Rounds of each comparison."""
    seconds: float = 4.0
    """Length of one measurement [s]."""
    deadline_ms: float = 200.0
    """Deadline of the queries under overload [ms]."""
    threads: int = 1
    """Threads of torch in the comparison with other servers, for each of them."""
    models: Path | None = None
    """Directory with published models `object` and `goal`; untrained ones are made by default."""
    environments: Path | None = None
    """Where the virtual environments of other servers are made and kept; thrown away by default."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(InferBenchFlags, prog="headrace bench infer", args=argv)
    unknown = [name for name in flags.only if name not in PARTS]
    if unknown or flags.rounds < 1 or flags.seconds <= 0:
        raise ConfigurationError(
            f"--only takes {', '.join(PARTS)}, found {unknown}; --rounds and --seconds must be positive"
        )
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        bench = InferBench(flags, Path(temporary), Console(stderr=True))
        for name in flags.only:
            bench.measure(name)
    console.print(table("headrace bench infer", bench.figures))
    for name, why in bench.left_out.items():
        console.print(f"{name} is left out: {why}", highlight=False)
    if flags.json:
        write_json(flags.json, bench.figures, {**bench.details, "left_out": bench.left_out})
    return 0 if all(figure.holds is not False for figure in bench.figures) else 1


class InferBench:
    """Measures one part after the other and keeps the figures."""

    def __init__(self, flags: InferBenchFlags, root: Path, console: Console) -> None:
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self._flags, self._root, self._console = flags, root, console
        self._models = flags.models or root / "models"
        if flags.models is None:
            run_python("deploy.main", ["models", "init", "--models", str(self._models)])
        self._goals = self._write("goals", "sample_goals", "object")

    def measure(self, name: str) -> None:
        """One part."""
        self._console.print(f"{name} …", highlight=False)
        if name in PEERS:
            self._peer(name)
        else:
            {"loop": self._loop, "memory": self._memory, "overload": self._overload}[name]()

    def _loop(self) -> None:
        ratios, served, looped = [], [], []
        for _ in range(self._flags.rounds):
            looped.append(self._looped())
            with infer_server(self._models, self._root) as (_, endpoint):
                served.append(self._ask(endpoint))
            ratios.append(served[-1]["per_s"] / max(looped[-1].values()))
        self.details["loop"] = {"served": served, "looped": looped}
        self._add("infer.vs_model_loop", median(ratios), "×", 0.7, runs=ratios)
        self._add("infer.queries_per_s", median(run["per_s"] for run in served), "/s")

    def _looped(self) -> dict[str, float]:
        """Queries/s of the goal model without a server, by threads and batch size."""
        found: dict[str, float] = {}
        path = self._root / "loop.json"
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            words = ["--models", str(self._models), "--threads", str(threads), "--json", str(path)]
            run_python("inference.model_bench", [*words, "--seconds", str(self._flags.seconds / _LOOP_PARTS)])
            for row in json.loads(path.read_text()):
                if row["kind"] == "goal":
                    found[f"threads {threads}, batch {row['batch']}"] = row["per_s"]
        return found

    def _ask(self, endpoint: str) -> dict[str, Any]:
        """Sixteen clients that ask for goals."""
        words = [endpoint, str(_CLIENTS), str(self._flags.seconds), str(self._goals)]
        command = [sys.executable, "-m", "producers.bench.queries", *words]
        done = subprocess.run(command, input="go\n", capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _peer(self, peer: str) -> None:
        queries = self._write("small", "rank_objects", "small", _CLIENTS)
        environments = (self._flags.environments or self._root / "environments").absolute()
        say = self._console.print
        flags = self._flags
        bench = PeerBench(self._root, environments, queries, flags.rounds, flags.seconds, flags.threads, say)
        try:
            compared = bench.compare(peer)
        except PeerError as error:
            self.left_out[f"infer.vs_{peer}"] = str(error)
            return
        pairs = list(zip(compared.ours, compared.theirs, strict=True))
        ratios = [ours.per_s / theirs.per_s for ours, theirs in pairs]
        latencies = [ours.p99_ms / theirs.p99_ms for ours, theirs in pairs]
        self.details[peer] = asdict(compared)
        self._add(f"infer.vs_{peer}", median(ratios), "×", 1.5, runs=ratios)
        self._add(f"infer.p99_vs_{peer}", median(latencies), "×", 1.0, sense="at_most", runs=latencies)

    def _memory(self) -> None:
        memory = measure_memory(self._models, self._goals, self._root)
        self.details["memory"] = asdict(memory)
        self._add("infer.memory_share", memory.share, "×", 0.125, sense="at_most")

    def _overload(self) -> None:
        with infer_server(self._models, self._root) as (_, endpoint), children() as started:
            capacity = self._ask(endpoint)["per_s"]
            deadline_s = self._flags.deadline_ms / 1000
            words = [endpoint, str(self._goals), str(2 * capacity), str(self._flags.seconds), str(deadline_s)]
            child = Child("deploy.bench.infer.overload", words, self._root / "overload.log")
            started.append(child)
            found = child.result()
        self.details["overload"] = {**found, "capacity_per_s": capacity}
        self._add("infer.overload_ok", found["share"], "", 1.0)
        self._add("infer.overload_answered_per_s", found["counts"].get("answered", 0) / self._flags.seconds, "/s")

    def _add(self, name: str, value: float, unit: str, bar: float | None = None, **more: Any) -> None:
        self.figures.append(Figure(name, value, unit, bar, **more))

    def _write(self, name: str, op: str, object_model: str, count: int = _QUERIES) -> Path:
        path = self._root / f"{name}.json"
        run_python("inference.bench.write_queries", [str(path), str(count), op, object_model])
        return path
