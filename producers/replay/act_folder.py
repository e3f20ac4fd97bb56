"""ACT's format, one `episode_{i}.hdf5` for each episode, and that of ACT++, whose images are padded JPEGs.

Layout: `action` [T, A], `observations/<name>` [T, …], `observations/images/<camera>` uint8[T, H, W, 3] upright RGB, or
with the attribute `compress` uint8[T, bytes], a JPEG with zeros behind it in each row
(github.com/tonyzhaozh/act `record_sim_episodes.py`, github.com/MarkFzp/act-plus-plus `utils.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from producers.replay.hdf5_items import datasets
from producers.replay.recording import Layout, RecordedEpisode, camera, check_same, column
from protocol.errors import EpisodeError
from protocol.spec import Camera, Column

IMAGES = "observations/images"
_EPISODE = re.compile(r"episode_(\d+)\.hdf5")
_END_OF_IMAGE = b"\xff\xd9"


class ActFolder:
    """A folder of such files, in the order of their numbers."""

    format = "act"

    def __init__(self, folder: Path) -> None:
        """Reads the layout of the first file, and the length of each. Raises EpisodeError, SpecError, OSError."""
        numbers = {int(match[1]): path for path in folder.iterdir() if (match := _EPISODE.fullmatch(path.name))}
        self._files = [numbers[number] for number in sorted(numbers)]
        with h5py.File(self._files[0]) as file:
            columns, cameras = _schema(file)
        self.layout = Layout(columns, cameras, max(map(_steps_of, self._files)), rate_hz=None)

    @staticmethod
    def is_one(path: Path) -> bool:
        """The folder has at least one such file."""
        return path.is_dir() and any(_EPISODE.fullmatch(child.name) for child in path.iterdir())

    def __len__(self) -> int:
        return len(self._files)

    def name(self, number: int) -> str:
        """The file."""
        return str(self._files[number])

    @contextmanager
    def episode(self, number: int) -> Iterator[RecordedEpisode]:
        """Open one file. Raises EpisodeError, SpecError, OSError."""
        with h5py.File(self._files[number]) as file:
            columns, cameras = _schema(file)
            check_same(self.layout, columns, cameras, self.name(number))
            compressed = bool(file.attrs.get("compress", False))

            def frame(name: str, step: int) -> bytes | NDArray[np.uint8]:
                row: NDArray[np.uint8] = file[f"{IMAGES}/{name}"][step]
                return _jpeg(row, f"{file.filename}: camera {name!r}, step {step}") if compressed else row

            yield RecordedEpisode(
                steps=_recorded_steps(file),
                columns={each.name: file[each.name][:] for each in self.layout.columns},
                frame=frame,
                success=bool(file.attrs.get("success", True)),
                seed=int(file.attrs.get("seed", 0)),
                attributes={"sim": bool(file.attrs.get("sim", False))},
            )


def _steps_of(path: Path) -> int:
    with h5py.File(path) as file:
        return _recorded_steps(file)


def _recorded_steps(file: h5py.File) -> int:
    """Without those that `headrace export act --equal-length` added at the end: the attribute says so."""
    return min(int(file.attrs.get("steps", _steps(file))), _steps(file))


def _steps(file: h5py.File) -> int:
    if not isinstance(file.get("action"), h5py.Dataset) or file["action"].ndim != 2:
        raise EpisodeError(f"{file.filename}: expected a dataset `action` [steps, size], as ACT has it; found none")
    return int(file["action"].shape[0])


def _schema(file: h5py.File) -> tuple[tuple[Column, ...], tuple[Camera, ...]]:
    steps, columns, cameras = _steps(file), [], []
    for name, dataset in datasets(file):
        where = f"{file.filename}: {name}"
        if name == "compress_len":  # [cameras, steps]: a reader needs no length, a JPEG says where it ends
            continue
        if not dataset.ndim or dataset.shape[0] != steps:
            raise EpisodeError(f"{where}: expected {steps} rows, one for each action; found shape {dataset.shape}")
        if name.startswith(f"{IMAGES}/"):
            cameras.append(_camera(file, name, dataset))
        else:
            columns.append(column(name, dataset.dtype, dataset.shape[1:], file.filename))
    return tuple(columns), tuple(cameras)


def _camera(file: h5py.File, name: str, dataset: h5py.Dataset) -> Camera:
    short, where = name.removeprefix(f"{IMAGES}/"), f"{file.filename}: {name}"
    if dataset.dtype != np.uint8:
        raise EpisodeError(f"{where}: expected uint8 images, found {dataset.dtype}")
    if dataset.ndim == 4 and dataset.shape[3] == 3:
        return camera(short, dataset.shape[1:])
    if dataset.ndim == 2 and file.attrs.get("compress", False):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(_jpeg(dataset[0], where))
        except ValueError as error:
            raise EpisodeError(f"{where}: its first row is no JPEG: {error}") from error
        return Camera(short, height, width)
    raise EpisodeError(
        f"{where}: expected uint8[steps, height, width, 3], or [steps, bytes] in a file with the attribute `compress`; "
        f"found shape {dataset.shape}"
    )


def _jpeg(row: NDArray[np.uint8], where: str) -> bytes:
    """Without the zeros behind it."""
    data = row.tobytes().rstrip(b"\0")
    if not data.endswith(_END_OF_IMAGE):
        raise EpisodeError(f"{where}: expected a padded JPEG, found {len(data)} bytes without its end mark")
    return data
