"""What a dataset says about itself that a checkpoint must keep: how its episodes were made, and their seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.checkpoint import Source
from protocol.dataset_view import DatasetView

# Attributes of episodes that say how to make more of the same kind.
_KEPT = ("env_args", "versions", "preset", "jpeg_quality")


@dataclass(frozen=True)
class Asked:
    """What the policy takes of the data. cameras: in the model's order."""

    streams: Sequence[str]
    state_columns: Sequence[str]
    cameras: Sequence[str]


class Provenance:
    """Looks at the same directories as the trainer; `with` closes them."""

    def __init__(self, roots: Iterable[Path], asked: Asked) -> None:
        """Raises DatasetError."""
        self._asked = asked
        self._closing = ExitStack()
        self._views = [self._closing.enter_context(DatasetView(root)) for root in roots]

    def __enter__(self) -> Provenance:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def look(self) -> tuple[Source, NDArray[np.uint64]]:
        """As of now, and the seeds of all committed episodes, failed and discarded ones too: uint64[n]."""
        for view in self._views:
            view.refresh()
        shards = [shard for view in self._views for shard in view.shards.values() if self._chosen(shard.spec.name)]
        rows = [shard.rows["seed"] for shard in shards if len(shard)]
        attributes: Mapping[str, Any] = {}
        for shard in shards:
            with_steps = np.flatnonzero(shard.rows["steps"])
            if len(with_steps):
                attributes = shard.episode(int(with_steps[-1])).attributes()
        columns = {column.name: column for shard in shards for column in shard.spec.columns}
        cameras = {camera.name: camera for shard in shards for camera in shard.spec.cameras}
        source = Source(
            streams=tuple(sorted({shard.spec.name for shard in shards})),
            state_columns={name: int(np.prod(columns[name].shape)) for name in self._asked.state_columns},
            cameras={name: (cameras[name].height, cameras[name].width) for name in self._asked.cameras},
            rate_hz=shards[0].spec.rate_hz,
            attributes={name: attributes[name] for name in _KEPT if name in attributes},
            episodes=sum(map(len, rows)),
        )
        return source, np.concatenate([np.asarray(row, np.uint64) for row in rows] or [np.zeros(0, np.uint64)])

    def _chosen(self, stream: str) -> bool:
        return not self._asked.streams or stream in self._asked.streams
