"""Writing the parts of episodes, and the dataset from the parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.spec import Camera, StreamSpec
from sink.export.episode import Episode
from sink.export.lerobot import statistics, tables, video
from sink.export.lerobot.dataset import Dataset
from sink.export.lerobot.features import Feature, picture_key
from sink.export.lerobot.layout import Limits, data_part, stats_part, video_part
from sink.export.plan import Done, Written
from sink.export.whole_file import whole_file


@dataclass(frozen=True)
class LeRobotWriter:
    """encoding: None if the frames stay JPEG. task, robot: None if not said."""

    folder: Path
    spec: StreamSpec
    features: tuple[Feature, ...]
    cameras: tuple[Camera, ...]
    encoding: video.Encoding | None
    task: str | None
    robot: str | None
    limits: Limits = field(default_factory=Limits)

    def write(self, episode: Episode) -> Written:
        """The parts of an episode: rows, statistics, and a video for each camera."""
        position, names = episode.position, [camera.name for camera in self.cameras]
        pictures: dict[str, list[bytes]] = {}
        files = [data_part(position), stats_part(position)]
        if self.encoding is None:
            pictures = {picture_key(name): list(episode.jpegs(name)) for name in names}
        else:
            for camera in self.cameras:
                files.append(video_part(position, camera.name))
                with whole_file(self.folder / files[-1]) as path:
                    video.encode(episode.jpegs(camera.name), camera, path, self.encoding)
        columns = self._columns(episode)
        with whole_file(self.folder / data_part(position)) as path:
            tables.write_part(path, columns, pictures)
        found = {key: statistics.of_column(_two_axes(values)) for key, values in columns.items()}
        found |= {picture_key(name): _of_camera(episode, name) for name in names}
        with whole_file(self.folder / stats_part(position)) as path:
            path.write_text(json.dumps({key: _plain(stats) for key, stats in found.items()}))
        return Written(tuple(files), episode.steps * len(names), {"task": self._task(episode)})

    def finish(self, done: Sequence[Done]) -> Sequence[str]:
        """The dataset from all parts; info.json comes last, so that what LeRobot opens is whole."""
        return Dataset(self.folder, self, done).write()

    def _columns(self, episode: Episode) -> dict[str, NDArray[Any]]:
        """key → [T, *shape] of all that the episode knows by itself, in the order of info.json."""
        steps = np.arange(episode.steps)
        made = {each.key: each.values([episode.column(name) for name in each.columns]) for each in self.features}
        made["timestamp"] = (steps / self.spec.rate_hz).astype(np.float32)
        made["frame_index"] = steps.astype(np.int64)
        return made

    def _task(self, episode: Episode) -> str:
        said = self.task if self.task is not None else episode.attributes.get("task")
        return said if isinstance(said, str) else self.spec.name


def _of_camera(episode: Episode, camera: str) -> statistics.Statistics:
    steps = statistics.looked_at(episode.steps)
    levels = np.zeros((3, 256), np.int64)
    for step in steps:
        levels += statistics.count_levels(episode.image(camera, step))
    return statistics.of_pictures(levels, len(steps))


def _two_axes(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, 1) if values.ndim == 1 else values


def _plain(stats: statistics.Statistics) -> dict[str, Any]:
    return {name: values.tolist() for name, values in stats.items()}
