"""LeRobot writes a dataset with video: a program for LeRobot's own environment; nothing of Headrace is imported there.

`python lerobot_program.py TASK`: TASK is JSON with `frames` (folder of JPEGs), `out`, `episodes`, `steps`, `cameras`,
`rate`, `codec` and `streaming`. It prints {"seconds", "cpu_s",
"frames"}. Only the calls of LeRobot are timed: its frames are
decoded before. It encodes with its defaults: CRF 30, a keyframe every 2 frames, SVT-AV1's preset 12.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

_WIDTH = 14
# What LeRobot's documentation advises for pictures on their way to a video.
_THREADS_PER_CAMERA = 4
_ENCODERS = {"av1": "libsvtav1", "h264": "h264"}


def main(task: dict[str, Any]) -> dict[str, float]:
    """Write the dataset. Raises RuntimeError if frames are missing in the end."""
    frames = [_pixels(path) for path in sorted(Path(task["frames"]).iterdir())]
    library, cameras = importlib.import_module("lerobot.datasets.lerobot_dataset"), task["cameras"]
    root = Path(task["out"])
    clock = Clock()
    dataset = clock.time(partial(_create, library, task, root, frames[0].shape))
    count = len(cameras)
    for episode in range(task["episodes"]):
        first = episode * task["steps"] * count
        columns = np.random.default_rng(episode).standard_normal((2, task["steps"], _WIDTH), np.float32)
        rows = [
            {
                **{
                    f"observation.images.{c}": frames[(first + step * count + k) % len(frames)]
                    for k, c in enumerate(cameras)
                },
                "observation.state": columns[0, step],
                "action": columns[1, step],
                "task": "bench",
            }
            for step in range(task["steps"])
        ]
        clock.time(partial(_write, dataset, rows))
    clock.time(dataset.finalize)
    wanted = task["episodes"] * task["steps"] * count
    found = sum(_packets(path) for path in root.rglob("*.mp4"))
    if found != wanted:
        raise RuntimeError(f"LeRobot wrote {found} of {wanted} frames")
    return {"seconds": clock.seconds, "cpu_s": clock.cpu_s, "frames": found}


def _create(library: Any, task: dict[str, Any], root: Path, shape: tuple[int, ...]) -> Any:
    image = {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"]}
    column = {"dtype": "float32", "shape": (_WIDTH,), "names": None}
    streaming = task["streaming"]
    return library.LeRobotDataset.create(
        repo_id="bench/export",
        fps=task["rate"],
        features={
            **{f"observation.images.{camera}": dict(image) for camera in task["cameras"]},
            "observation.state": dict(column),
            "action": dict(column),
        },
        root=root,
        vcodec=_ENCODERS[task["codec"]],
        streaming_encoding=streaming,
        # It drops frames when its queue is full; here the queue holds an episode.
        encoder_queue_maxsize=task["steps"] + 1,
        image_writer_threads=0 if streaming else _THREADS_PER_CAMERA * len(task["cameras"]),
    )


def _write(dataset: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        dataset.add_frame(row)
    dataset.save_episode()


def _pixels(path: Path) -> Any:
    return np.asarray(importlib.import_module("PIL.Image").open(path).convert("RGB"))


def _packets(path: Path) -> int:
    with importlib.import_module("av").open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


class Clock:
    """Adds up what calls take: wall time, and processor time of this process and of those that it waited for."""

    def __init__(self) -> None:
        self.seconds = self.cpu_s = 0.0

    def time(self, action: Callable[[], Any]) -> Any:
        """Call it; returns what it returns."""
        began, used = time.perf_counter(), sum(os.times()[:4])
        made = action()
        self.seconds += time.perf_counter() - began
        self.cpu_s += sum(os.times()[:4]) - used
        return made


if __name__ == "__main__":
    # What the libraries print is no answer: it goes to stderr.
    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, f"{json.dumps(main(json.loads(sys.argv[1])))}\n".encode())
