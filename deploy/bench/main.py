"""`headrace bench WHAT`: finds the measurement and runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from protocol.errors import ConfigurationError

# name → (module:function, one line of help). Named as text: deploy imports no program's insides.
BENCHES: dict[str, tuple[str, str]] = {
    "collect": ("deploy.bench.collect:main", "episodes per hour and core, against robosuite's own way"),
    "sink": ("deploy.bench.sink.main:main", "the sink against its disk and its network, crowds, restarts, peers"),
    "scale": ("deploy.bench.scale.main:main", "10 000 producers in simulated time: fairness, deaths, restart, cost"),
    "plan": ("deploy.bench.plan:main", "NAMO: pushes, solved searches and their cost, tree against idfs"),
    "loop": ("deploy.bench.loop:main", "NAMO planners with models trained on their own searches, against heuristics"),
    "infer": ("deploy.bench.infer.main:main", "the inference server against its model alone and other servers"),
    "read": ("deploy.bench.read.main:main", "LiveDataset against decoding and other loaders, refresh, growing data"),
    "export": ("deploy.bench.export.main:main", "the ACT export against the disk, the LeRobot export against LeRobot"),
    "page": ("deploy.bench.page:main", "what it costs the ingest that somebody looks at the page in a browser"),
    "pack": ("deploy.bench.pack.main:main", "size, images and rates of a packed dataset, and LeRobot's video"),
    "policy": ("producers.robosuite.policy_bench:main", "success and length of scripted episodes, by task"),
}


def main(argv: Sequence[str]) -> int:
    """Run one measurement. Raises HeadraceError."""
    if not argv or argv[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<8} {text}" for name, (_, text) in BENCHES.items())
        sys.stdout.write(f"usage: headrace bench WHAT [FLAGS]\n\n{rows}\n")
        return 0 if argv else 2
    if argv[0] not in BENCHES:
        raise ConfigurationError(f"there is no bench {argv[0]!r}; expected one of: {', '.join(BENCHES)}")
    module, function = BENCHES[argv[0]][0].split(":")
    return int(getattr(importlib.import_module(module), function)(list(argv[1:])) or 0)
