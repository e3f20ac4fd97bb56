"""LeRobotDataset v3.0: parquet tables, and images as JPEG or PNG in them or as videos beside them.

Source: huggingface/lerobot, src/lerobot/datasets (v0.4.4): `info.json`, `meta/episodes`, `data`, `videos`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from producers.replay.lerobot_info import INFO, Feature, read_info
from producers.replay.recording import Layout, RecordedEpisode, column
from producers.replay.video_frames import VideoFrames
from protocol.errors import ConfigurationError, EpisodeError
from protocol.spec import Camera, Column

_IMAGES = "observation.images."
# Made by every reader anew from the number of a frame and of its episode.
_COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_JPEG = b"\xff\xd8\xff"


class LeRobotFolder:
    """A folder of such a dataset, episodes in the order of their numbers."""

    format = "lerobot"

    def __init__(self, folder: Path) -> None:
        """Reads `info.json` and the table of episodes. Raises ConfigurationError, EpisodeError, SpecError, OSError."""
        self._folder = folder
        self._info = read_info(folder)
        rows = [row for path in sorted(folder.glob("meta/episodes/*/*.parquet")) for row in _table(path).to_pylist()]
        self._rows = sorted(rows, key=lambda row: int(row["episode_index"]))
        if not self._rows:
            raise EpisodeError(f"{folder}: meta/episodes has no episode")
        columns, cameras = self._schema(self._info.features)
        longest = max(int(row["length"]) for row in self._rows)
        self.layout = Layout(columns, cameras, longest, self._info.rate_hz)

    @staticmethod
    def is_one(path: Path) -> bool:
        """The folder says that it is one."""
        return (path / INFO).is_file()

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, number: int) -> str:
        """The folder and the episode's number there."""
        return f"{self._folder}: episode {self._rows[number]['episode_index']}"

    @contextmanager
    def episode(self, number: int) -> Iterator[RecordedEpisode]:
        """Read the table of one episode; videos are read frame by frame. Raises EpisodeError, OSError."""
        row = self._rows[number]
        wanted = [("episode_index", "=", row["episode_index"])]
        table = _table(self._info.data(self._folder, row), wanted).sort_by("frame_index")
        if table.num_rows != int(row["length"]):
            raise EpisodeError(f"{self.name(number)}: expected {row['length']} steps, found {table.num_rows}")
        columns = {self._ours(name): self._rows_of(table, name) for name in self._numeric}
        videos = {name: self._video(name, row) for name in self._videos}

        def frame(name: str, step: int) -> bytes | NDArray[np.uint8]:
            feature = self._features[name]
            if feature in videos:
                return videos[feature].frame(step)
            return self._image(name, table[feature][step].as_py(), f"{self.name(number)}, {feature}, step {step}")

        try:
            succeeded = bool(np.any(columns.get("next.success", True)))
            tasks = list(row.get("tasks") or ())
            attributes = {"task": tasks[0]} if len(tasks) == 1 else {"tasks": tasks}
            yield RecordedEpisode(table.num_rows, columns, frame, succeeded, attributes=attributes)
        finally:
            for video in videos.values():
                video.close()

    def _schema(self, features: dict[str, Feature]) -> tuple[tuple[Column, ...], tuple[Camera, ...]]:
        self._features: dict[str, str] = {}  # of a camera
        self._videos: list[str] = []
        self._numeric: list[str] = []
        columns, cameras = [], []
        for name, feature in features.items():
            where = f"{self._folder / INFO}: {name}"
            if name in _COUNTERS:
                continue
            if feature.dtype in ("image", "video"):
                cameras.append(_camera(name.removeprefix(_IMAGES), feature, where))
                self._features[cameras[-1].name] = name
                self._videos += [name] if feature.dtype == "video" else []
                continue
            try:
                dtype = np.dtype(feature.dtype)
            except TypeError as error:
                raise EpisodeError(f"{where}: dtype {feature.dtype!r} cannot be published") from error
            self._numeric.append(name)
            columns.append(column(self._ours(name), dtype, feature.shape, where))
        return tuple(columns), tuple(cameras)

    @staticmethod
    def _ours(name: str) -> str:
        return name.replace("observation.", "observations/", 1) if name.startswith("observation.") else name

    def _rows_of(self, table: Any, name: str) -> NDArray[Any]:
        feature = self._info.features[name]
        try:
            return np.array(table[name].to_pylist(), feature.dtype).reshape(table.num_rows, *feature.shape)
        except (ValueError, TypeError) as error:
            raise EpisodeError(f"{name}: expected {feature.dtype}{list(feature.shape)} in each row: {error}") from error

    def _video(self, name: str, row: dict[str, Any]) -> VideoFrames:
        path = self._info.video(self._folder, row, name)
        return VideoFrames(path, float(row[f"videos/{name}/from_timestamp"]), self._info.rate_hz)

    def _image(self, camera: str, value: Any, where: str) -> bytes | NDArray[np.uint8]:
        """The stored bytes if they are a JPEG, else the decoded image."""
        data = value.get("bytes") if isinstance(value, dict) else None
        if not data:
            raise EpisodeError(f"{where}: expected the bytes of an image; a path to one is not followed")
        if data.startswith(_JPEG):
            return bytes(data)
        size = next((each.width, each.height) for each in self.layout.cameras if each.name == camera)
        try:
            image = Image.open(io.BytesIO(data))
            if image.size != size:  # before anything is decoded
                raise EpisodeError(f"{where}: expected {size[1]}×{size[0]} pixels, found {image.height}×{image.width}")
            return np.asarray(image.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise EpisodeError(f"{where}: expected a JPEG or PNG: {error}") from error


def _camera(name: str, feature: Feature, where: str) -> Camera:
    sides = feature.sides
    if len(feature.shape) != 3 or not {"height", "width"} <= sides.keys() or 3 not in feature.shape:
        raise EpisodeError(f"{where}: expected height × width × 3 channels, found {list(feature.shape)}")
    return Camera(name, sides["height"], sides["width"])


def _table(path: Path, filters: list[tuple[str, str, Any]] | None = None) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ConfigurationError("LeRobot's tables need pyarrow: pip install 'headrace[replay]'") from error
    try:
        return parquet.read_table(path, filters=filters, partitioning=None)
    except ArrowException as error:
        raise EpisodeError(f"{path}: {error}") from error
