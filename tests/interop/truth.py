"""A small dataset, and what is in it as plain arrays, which any Python can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from protocol.dataset_view import DatasetView
from protocol.jpeg import decode
from protocol.messages import Outcome
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded
from tests.export.arm import make

# One camera is so large that LeRobot looks at a part of its pixels only.
SPEC = StreamSpec(
    "test/arm",
    rate_hz=50,
    max_steps=200,
    columns=(
        Column("action", "float32", (2,)),
        Column("observations/qpos", "float64", (3,)),
        Column("observations/grid", "int32", (2, 3)),
        Column("contact", "bool"),
        Column("states", "float64", (4,)),
    ),
    cameras=(Camera("front", 48, 64), Camera("wrist", 320, 400)),
)
# index → steps; committed in this order. More than 100 steps are sampled by LeRobot's statistics.
_STEPS = {7: 12, 2: 6, 4: 130}


def write(folder: Path) -> tuple[Path, Path]:
    """Make the dataset below `folder`; returns its directory and the file of the truth.

    The file has `POSITION/NAME` for each episode by index: columns, frames as uint8[T, H, W, 3], and `count`.
    """
    environment = {"env_name": "Arm", "type": 1, "env_kwargs": {"control_freq": 50}}
    episodes = [
        Recorded(index, steps, attributes={"task": f"task {index % 4}", "env_args": environment})
        for index, steps in _STEPS.items()
    ]
    # robomimic takes actions from -1 to 1 only.
    data = make(folder / "data", [*episodes, Recorded(5, outcome=Outcome.VOID)], SPEC, actions=0.001)
    arrays: dict[str, Any] = {"count": len(_STEPS), "rate_hz": SPEC.rate_hz}
    with DatasetView(data) as view:
        found = sorted((each for each in view.new_episodes() if each.steps), key=lambda each: each.index)
        for position, episode in enumerate(found):
            about = {column.name: episode.column(column.name) for column in SPEC.columns}
            for camera in SPEC.cameras:
                frames = [decode(episode.frame(camera.name, step)) for step in range(episode.steps)]
                about[camera.name] = np.stack(frames)
            about["task"] = np.array(episode.attributes()["task"])
            arrays |= {f"{position}/{name}": values for name, values in about.items()}
    path = folder / "truth.npz"
    np.savez_compressed(path, **arrays)
    return data, path
