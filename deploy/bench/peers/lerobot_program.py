"""LeRobot's dataset writer, as a program for its own virtual environment: nothing of Headrace can be imported there.

`python lerobot_program.py TASK` with the task of `writer.py`; `python lerobot_program.py --read FOLDER` tells what a
reader finds. The peer `lerobot_images` keeps PNG in parquet, `lerobot_video` encodes with LeRobot's default codec.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

_REPOSITORY = "bench/peer"
_COLUMN_WIDTH = 14
_STDOUT = 1
_RATE_HZ = 50
# What LeRobot's own documentation advises.
_THREADS_PER_CAMERA = 4


def main(task: dict[str, Any]) -> dict[str, float]:
    """Write what the task asks for; only the calls of LeRobot are timed."""
    frames = _load_frames(Path(task["frames"]))
    seconds, dataset = _timed(lambda: _create(task, frames[0]))
    done = payload_bytes = 0
    while done < task["episodes"] and (seconds < task["budget_s"] or done == 0):
        places = range(done * task["steps"] * len(task["cameras"]), (done + 1) * task["steps"] * len(task["cameras"]))
        jpegs = [frames[place % len(frames)] for place in places]
        steps = _steps(task, done, jpegs)
        middle = task["steps"] // 2 if task["hold"] and done == 1 else None
        seconds += _timed(partial(_write, dataset, steps, middle))[0]
        payload_bytes += sum(map(len, jpegs))
        done += 1
    seconds += _timed(dataset.finalize)[0]
    written = done * task["steps"] * len(task["cameras"])
    return {"episodes": done, "frames": written, "seconds": seconds, "payload_bytes": payload_bytes}


def look(folder: Path) -> str:
    """What a reader finds."""
    try:
        dataset = _library().LeRobotDataset(_REPOSITORY, root=folder)
        found = f"opens, {dataset.num_episodes} episodes, {len(dataset)} steps"
        dataset.hf_dataset[len(dataset) - 1]  # without the video, whose decoder is a package of its own
    except Exception as raised:  # whatever it is, it is the answer
        error: BaseException = raised
        # What does not open here LeRobot looks for on its hub; what it says about that hides why it did not open.
        while error.__context__ is not None:
            error = error.__context__
        return f"does not open: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return found


def _create(task: dict[str, Any], frame: bytes) -> Any:
    video, cameras = task["peer"] == "lerobot_video", task["cameras"]
    names = ["height", "width", "channels"]
    image = {"dtype": "video" if video else "image", "shape": _pixels(frame).shape, "names": names}
    column = {"dtype": "float32", "shape": (_COLUMN_WIDTH,), "names": None}
    features = {f"observation.images.{camera}": dict(image) for camera in cameras}
    features |= {"observation.state": dict(column), "action": dict(column)}
    return _library().LeRobotDataset.create(
        repo_id=_REPOSITORY,
        fps=_RATE_HZ,
        features=features,
        root=Path(task["out"]) / "dataset",
        use_videos=video,
        image_writer_threads=_THREADS_PER_CAMERA * len(cameras),
    )


def _write(dataset: Any, steps: list[dict[str, Any]], middle: int | None) -> None:
    for number, step in enumerate(steps):
        dataset.add_frame(step)
        if number == middle:
            _hold()
    dataset.save_episode()


def _steps(task: dict[str, Any], number: int, jpegs: list[bytes]) -> list[dict[str, Any]]:
    """The steps of an episode as LeRobot takes them, decoded."""
    columns = np.random.default_rng(number).standard_normal((2, task["steps"], _COLUMN_WIDTH), np.float32)
    images = [_pixels(jpeg) for jpeg in jpegs]
    count = len(task["cameras"])
    steps = []
    for step in range(task["steps"]):
        pixels = {
            f"observation.images.{camera}": images[step * count + place] for place, camera in enumerate(task["cameras"])
        }
        state, action = columns[0, step], columns[1, step]
        steps.append({**pixels, "observation.state": state, "action": action, "task": "bench"})
    return steps


def _pixels(jpeg: bytes) -> Any:
    image = importlib.import_module("PIL.Image")
    return np.asarray(image.open(io.BytesIO(jpeg)).convert("RGB"))


def _load_frames(path: Path) -> list[bytes]:
    with np.load(path, allow_pickle=False) as stored:
        blob, ends = stored["blob"].tobytes(), np.cumsum(stored["sizes"]).tolist()
    return [blob[first:end] for first, end in zip([0, *ends], ends, strict=False)]


def _library() -> Any:
    return importlib.import_module("lerobot.datasets.lerobot_dataset")


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = action()
    return time.perf_counter() - began, made


def _hold() -> None:
    _answer('{"holding": true}')
    sys.stdin.read()
    sys.exit("nobody waits for this any more")


def _answer(line: str) -> None:
    """One line on the stdout that we were started with."""
    os.write(_STDOUT, f"{line}\n".encode())


if __name__ == "__main__":
    # Whatever the libraries print is not an answer: it goes to stderr.
    _STDOUT = os.dup(1)
    os.dup2(2, 1)
    if sys.argv[1] == "--read":
        _answer(look(Path(sys.argv[2]) / "dataset"))
    else:
        _answer(json.dumps(main(json.loads(sys.argv[1]))))
