"""LeRobotDataset's reader, as a program for its own virtual environment: nothing of Headrace can be imported there.

`python -P lerobot_program.py SETTINGS` with root, samples, chunk, batch, core.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

_REPOSITORY = "bench/peer"
_RATE_HZ = 50
_STDOUT = 1


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Samples, seconds and processor seconds of one turn."""
    torch, library = importlib.import_module("torch"), importlib.import_module("lerobot.datasets.lerobot_dataset")
    chunk = {"action": [step / _RATE_HZ for step in range(settings["chunk"])]}
    data = library.LeRobotDataset(_REPOSITORY, root=settings["root"], delta_timestamps=chunk)
    loader = torch.utils.data.DataLoader(data, batch_size=settings["batch"], shuffle=True)
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    for batch in loader:
        done += len(batch["action"])
        if done >= settings["samples"]:
            break
    return {"samples": done, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


def _answer(answer: dict[str, Any]) -> None:
    os.write(_STDOUT, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    # Whatever the libraries print is not an answer: it goes to stderr.
    _STDOUT = os.dup(1)
    os.dup2(2, 1)
    chosen = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {chosen["core"]})
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("lerobot.datasets.lerobot_dataset")
    _answer({"ready": True})
    for _ in sys.stdin:
        _answer(measure(chosen))
