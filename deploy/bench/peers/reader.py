"""`python -m deploy.bench.peers.reader FOLDER`: what a reader finds in the files of an h5py peer, with plain h5py.

Prints one line for people. In a process of its own, because a file that is half written may end its reader.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py

from deploy.bench.peers.h5py_swmr import FILE_NAME


def look(folder: Path) -> str:
    """One sentence for each file, or for each way to open it."""
    if (folder / FILE_NAME).exists():
        path = folder / FILE_NAME
        return f"plain: {_swmr_file(path, swmr=False)}; swmr=True: {_swmr_file(path, swmr=True)}"
    return "; ".join(f"{path.name}: {_episode_file(path)}" for path in sorted(folder.glob("*.hdf5")))


def _episode_file(path: Path) -> str:
    try:
        with h5py.File(path, "r") as root:
            cameras = list(root["observations/images"].values())
            written = [sum(_is_written(frame) for frame in camera) for camera in cameras]
            steps = len(cameras[0])
    except (OSError, KeyError, RuntimeError) as error:
        return _told(error)
    return f"opens, {min(written)} of {steps} steps"


def _is_written(frame: Any) -> bool:
    """What was never written reads as zeros, or as nothing where frames are of variable length."""
    return bool(frame.size and frame.any())


def _swmr_file(path: Path, swmr: bool) -> str:
    try:
        with h5py.File(path, "r", libver="latest", swmr=swmr) as root:
            cameras = list(root["observations/images"].values())
            steps = min(len(camera) for camera in cameras)
            blob = root["blob"]
            places = [camera[steps - 1] for camera in cameras] if steps else []
            whole = all(blob[at : at + size].tobytes()[:2] == b"\xff\xd8" for at, size in places)
            episodes = len(root["ends"])
    except (OSError, KeyError, RuntimeError) as error:
        return _told(error)
    return f"opens, {episodes} episodes, {steps} steps" + ("" if whole else ", the last frame is missing")


def _told(error: Exception) -> str:
    return "does not open: " + " ".join(str(error).split())


if __name__ == "__main__":
    sys.stdout.write(look(Path(sys.argv[1])) + "\n")
