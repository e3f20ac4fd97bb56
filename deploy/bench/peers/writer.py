"""`python -m deploy.bench.peers.writer TASK`: one h5py peer in a process of its own. Reports as JSON on stdout.

TASK is a JSON object: peer, frames (file), out (folder), episodes, steps, cameras, budget_s, hold. With `hold` it stops
in the middle of the second episode, says so, and waits to be killed; it ends when stdin does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.bench.peers.episodes import EpisodeSource, load_frames
from deploy.bench.peers.h5py_files import EpisodeFiles
from deploy.bench.peers.h5py_swmr import SwmrFile


def main(task: dict[str, Any]) -> dict[str, float]:
    """Write what the task asks for."""
    source = EpisodeSource(load_frames(Path(task["frames"])), task["steps"], task["cameras"])
    middle = (1, task["steps"] // 2)
    began = time.perf_counter()
    writer = make_writer(task, lambda number, step: _hold() if task["hold"] and (number, step) == middle else None)
    seconds = time.perf_counter() - began
    done = payload_bytes = 0
    while done < task["episodes"] and (seconds < task["budget_s"] or done == 0):
        episode = source.episode(done, writer.pixels)
        began = time.perf_counter()
        writer.write(episode)
        seconds += time.perf_counter() - began
        payload_bytes += source.payload_bytes(done)
        done += 1
    began = time.perf_counter()
    writer.close()
    seconds += time.perf_counter() - began
    frames = done * task["steps"] * len(task["cameras"])
    return {"episodes": done, "frames": frames, "seconds": seconds, "payload_bytes": payload_bytes}


def make_writer(task: dict[str, Any], after_step: Callable[[int, int], None]) -> EpisodeFiles | SwmrFile:
    """The writer that the name of the peer stands for: h5py_gzip, h5py_jpeg or h5py_swmr, and each with _fsync."""
    name, out = task["peer"], Path(task["out"])
    kind, sync = name.removesuffix("_fsync"), name.endswith("_fsync")
    if kind == "h5py_swmr":
        return SwmrFile(out, task["cameras"], sync, after_step)
    return EpisodeFiles(out, kind == "h5py_gzip", sync, after_step)


def _hold() -> None:
    sys.stdout.write('{"holding": true}\n')
    sys.stdout.flush()
    sys.stdin.read()
    sys.exit("nobody waits for this any more")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
