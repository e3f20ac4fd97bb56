"""`python -m sink.bench.generate DIR --episodes N`: a dataset of very small episodes, for measuring a restart.

The sink's own store writes it, so each row is one that a sink would have committed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from protocol.checksum import episode_checksum
from protocol.messages import End, Outcome
from protocol.orders import Attempt
from protocol.spec import Column, StreamSpec
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.stream_store import NotReadyError, StreamStore

SPEC = StreamSpec("bench/rows", 50.0, 10, (Column("action", "float32", (1,)),))
_GROUP = 4096
_ATTRIBUTES = b'{"success":true}'


@dataclass(frozen=True)
class GenerateFlags:
    """Write episodes of one step."""

    data: Path
    """Dataset directory."""
    episodes: int = 1_000_000
    """How many."""
    shard_mib: int = 1024
    """Size of a shard's blob [MiB], as of `headrace sink`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write them. Raises HeadraceError."""
    flags = tyro.cli(GenerateFlags, prog="sink.bench.generate", args=argv)
    flags.data.mkdir(parents=True, exist_ok=True)
    action = np.zeros(1, "<f4").tobytes()
    checksum = episode_checksum([], [action], _ATTRIBUTES)
    uuid = dataset_uuid(flags.data)
    with ThreadPoolExecutor(1) as pool:
        store = StreamStore(flags.data / SPEC.name, SPEC, flags.shard_mib << 20, uuid, Disk(), pool)
        for index in range(flags.episodes):
            attempt = Attempt(index, SPEC.name, index, 1, "generate")
            end = End(
                session=1, index=index, outcome=Outcome.SUCCESS, steps=1, seed=index, began_ns=0, ended_ns=0,
                checksum=checksum,
            )  # fmt: skip
            _finish(store, attempt, end, action)
            if index % _GROUP == 0:
                store.commit()
        store.close()
    return 0


def _finish(store: StreamStore, attempt: Attempt, end: End, action: bytes) -> None:
    try:
        store.finish(attempt, end, [_ATTRIBUTES, action])
    except NotReadyError:
        assert store.preparing is not None
        store.preparing.result()
        store.finish(attempt, end, [_ATTRIBUTES, action])


if __name__ == "__main__":
    sys.exit(main())
