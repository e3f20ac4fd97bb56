"""robomimic's format: one HDF5 file, `data/demo_N` with actions, states, rewards, dones and `obs/<key>`.

Source: robomimic's docs/datasets/overview.md. Images are `obs/<camera>_image` uint8[T, H, W, 3], upright RGB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from producers.replay.hdf5_items import datasets
from producers.replay.recording import Layout, RecordedEpisode, camera, check_same, column
from protocol.errors import EpisodeError
from protocol.spec import Camera, Column

_DEMO = re.compile(r"demo_(\d+)")
_IMAGE = "_image"
# What the reader makes from `obs`, shifted by a step.
_DERIVED = "next_obs/"


class RobomimicFile:
    """Such a file, demonstrations in the order of their numbers."""

    format = "robomimic"

    def __init__(self, path: Path) -> None:
        """Reads the layout from the first demonstration. Raises EpisodeError, SpecError, OSError."""
        self._path = path
        with h5py.File(path) as file:
            data = file["data"]
            numbers = {int(match[1]): name for name in data if (match := _DEMO.fullmatch(name))}
            self._demos = [numbers[number] for number in sorted(numbers)]
            self._env_args = _json(data.attrs.get("env_args"), f"{path}: env_args")
            columns, cameras = _schema(data[self._demos[0]])
            longest = max(_steps(data[name]) for name in self._demos)
            rate = self._env_args.get("env_kwargs", {}).get("control_freq")
            # A file without rewards cannot say which demonstrations failed.
            self._rewarded = any(
                "rewards" in data[name] and (data[name]["rewards"][:] > 0).any() for name in self._demos
            )
        self.layout = Layout(columns, cameras, longest, None if rate is None else float(rate))

    @staticmethod
    def is_one(path: Path) -> bool:
        """The file has at least one demonstration."""
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with h5py.File(path) as file:
            data = file.get("data")
            return isinstance(data, h5py.Group) and any(map(_DEMO.fullmatch, data))

    def __len__(self) -> int:
        return len(self._demos)

    def name(self, number: int) -> str:
        """The file and the demonstration in it."""
        return f"{self._path}: {self._demos[number]}"

    @contextmanager
    def episode(self, number: int) -> Iterator[RecordedEpisode]:
        """Open one demonstration. Raises EpisodeError, SpecError, OSError."""
        with h5py.File(self._path) as file:
            demo = file["data"][self._demos[number]]
            columns, cameras = _schema(demo)
            check_same(self.layout, columns, cameras, self.name(number))

            def frame(name: str, step: int) -> NDArray[np.uint8]:
                image: NDArray[np.uint8] = demo["obs"][name + _IMAGE][step]
                return image

            yield RecordedEpisode(
                steps=_steps(demo),
                columns={each.name: demo[_place(each.name)][:] for each in self.layout.columns},
                frame=frame,
                success=bool(demo.attrs.get("success", not self._rewarded or _rewarded(demo))),
                seed=int(demo.attrs.get("seed", 0)),
                attributes=self._attributes(demo),
                documents=_documents(demo),
            )

    def _attributes(self, demo: h5py.Group) -> dict[str, Any]:
        meta = demo.attrs.get("ep_meta")
        found = {"env_args": self._env_args} if self._env_args else {}
        return found if meta is None else {**found, "ep_meta": _json(meta, f"{demo.name}: ep_meta")}


# robomimic's names of what is not an observation → ours.
_COLUMNS = {"actions": "action", "states": "states", "rewards": "reward", "dones": "done"}
_PLACES = {ours: theirs for theirs, ours in _COLUMNS.items()}


def _place(name: str) -> str:
    """Where a column is in a demonstration."""
    return _PLACES.get(name) or name.replace("observations/", "obs/", 1)


def _rewarded(demo: h5py.Group) -> bool:
    return "rewards" in demo and bool((demo["rewards"][:] > 0).any())


def _steps(demo: h5py.Group) -> int:
    if not isinstance(demo.get("actions"), h5py.Dataset) or demo["actions"].ndim != 2:
        raise EpisodeError(f"{demo.file.filename}: {demo.name}: expected a dataset `actions` [steps, size]; found none")
    return int(demo["actions"].shape[0])


def _schema(demo: h5py.Group) -> tuple[tuple[Column, ...], tuple[Camera, ...]]:
    steps, columns, cameras = _steps(demo), [], []
    for name, dataset in datasets(demo):
        if name.startswith(_DERIVED):
            continue
        where = f"{demo.file.filename}: {demo.name}/{name}"
        if not dataset.ndim or dataset.shape[0] != steps:
            raise EpisodeError(f"{where}: expected {steps} rows, one for each action; found shape {dataset.shape}")
        if name.startswith("obs/") and dataset.ndim == 4:
            if dataset.dtype != np.uint8 or dataset.shape[3] != 3 or not name.endswith(_IMAGE):
                found = f"{dataset.dtype}{list(dataset.shape)}"
                raise EpisodeError(f"{where}: expected images NAME_image uint8[steps, height, width, 3], found {found}")
            cameras.append(camera(name.removeprefix("obs/").removesuffix(_IMAGE), dataset.shape[1:]))
            continue
        ours = _COLUMNS.get(name) or name.replace("obs/", "observations/", 1)
        columns.append(column(ours, dataset.dtype, dataset.shape[1:], where))
    return tuple(columns), tuple(cameras)


def _documents(demo: h5py.Group) -> dict[str, bytes]:
    model = demo.attrs.get("model_file")
    if model is None:
        return {}
    return {"model_xml": model if isinstance(model, bytes) else str(model).encode()}


def _json(text: Any, where: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, TypeError) as error:
        raise EpisodeError(f"{where}: expected JSON: {error}") from error
    if not isinstance(found, dict):
        raise EpisodeError(f"{where}: expected a JSON object, found {type(found).__name__}")
    return found
