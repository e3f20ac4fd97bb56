"""robomimic's SequenceDataset, as a program for its own virtual environment: nothing of Headrace can be imported there.

`python -P robomimic_program.py SETTINGS` with path, samples, sequence, batch, core. Low-dimensional data are kept in
memory, as robomimic advises for images. `sequence`: steps of a sample; it loads as many frames as actions.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

_CAMERAS = ("front", "wrist")
_STDOUT = 1


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Samples and seconds of one turn."""
    torch, library = importlib.import_module("torch"), importlib.import_module("robomimic.utils.dataset")
    obs_utils = importlib.import_module("robomimic.utils.obs_utils")
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["qpos"], "rgb": list(_CAMERAS)}})
    data = library.SequenceDataset(
        settings["path"],
        obs_keys=("qpos", *_CAMERAS),
        dataset_keys=("actions",),
        seq_length=settings["sequence"],
        hdf5_cache_mode="low_dim",
        load_next_obs=False,
    )
    loader = torch.utils.data.DataLoader(data, batch_size=settings["batch"], shuffle=True)
    done, began = 0, time.perf_counter()
    for batch in loader:
        done += len(batch["actions"])
        if done >= settings["samples"]:
            break
    return {"samples": done, "seconds": time.perf_counter() - began}


def _answer(answer: dict[str, Any]) -> None:
    os.write(_STDOUT, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    # Whatever the library prints is not an answer: it goes to stderr.
    _STDOUT = os.dup(1)
    os.dup2(2, 1)
    chosen = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {chosen["core"]})
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("robomimic.utils.dataset")
    _answer({"ready": True})
    for _ in sys.stdin:
        _answer(measure(chosen))
