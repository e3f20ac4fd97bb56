"""A LeRobotDataset v3.0 from the parts of its episodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sink.export.lerobot import features, layout, statistics, tables, video
from sink.export.lerobot.layout import File, share_files
from sink.export.lerobot.statistics import Statistics
from sink.export.plan import Done
from sink.export.whole_file import whole_file

if TYPE_CHECKING:
    from sink.export.lerobot.writer import LeRobotWriter

_JSON_INDENT = 4


class Dataset:
    """The whole of an export: everything that no episode knows by itself."""

    def __init__(self, folder: Path, writer: LeRobotWriter, done: Sequence[Done]) -> None:
        """done: all episodes by position."""
        self._folder, self._writer, self._done = folder, writer, done
        self._steps = [each.entry.steps for each in done]
        self._begins = [0, *np.cumsum(self._steps).tolist()]
        self._made: list[str] = []
        self._tasks = list(dict.fromkeys(str(each.written.details["task"]) for each in done))

    def write(self) -> list[str]:
        """Write all files and name them. The same again if it is called again."""
        self._made.clear()
        rows = self._rows_of_episodes()
        self._write_data(rows)
        for camera in self._cameras:
            self._write_videos(camera, rows)
        with self._file(layout.TASKS_PATH) as path:
            tables.write_tasks(path, self._tasks)
        self._write_episodes(rows)
        found = [self._statistics(position) for position in range(len(self._done))]
        whole = {key: statistics.together([each[key] for each in found]) for key in found[0]}
        self._write_json(
            layout.STATS_PATH, {key: {n: v.tolist() for n, v in stats.items()} for key, stats in whole.items()}
        )
        self._write_json(layout.INFO_PATH, self._info())
        return self._made

    @cached_property
    def _cameras(self) -> tuple[str, ...]:
        """Those that have videos."""
        return tuple(camera.name for camera in self._writer.cameras) if self._writer.encoding is not None else ()

    def _rows_of_episodes(self) -> list[dict[str, Any]]:
        return [
            {
                "episode_index": position,
                "tasks": [each.written.details["task"]],
                "length": each.entry.steps,
                "dataset_from_index": self._begins[position],
                "dataset_to_index": self._begins[position + 1],
            }
            for position, each in enumerate(self._done)
        ]

    def _write_data(self, rows: list[dict[str, Any]]) -> None:
        sizes = [each.sizes[layout.data_part(position)] for position, each in enumerate(self._done)]
        limits, pictures = self._writer.limits, [] if self._cameras else self._writer.cameras
        about = tables.metadata(self._writer.features, [features.picture_key(camera.name) for camera in pictures])
        for file in share_files(sizes, limits.data_mb):
            parts = [(self._folder / layout.data_part(each), self._numbers(each)) for each in file.members]
            with self._file(file.path(layout.DATA_PATH, limits)) as path:
                tables.join_parts(path, parts, about)
            self._note(rows, file, "data")

    def _write_videos(self, camera: str, rows: list[dict[str, Any]]) -> None:
        key, limits, rate = features.picture_key(camera), self._writer.limits, self._writer.spec.rate_hz
        sizes = [each.sizes[layout.video_part(position, camera)] for position, each in enumerate(self._done)]
        seconds = [count / rate for count in self._steps]
        for file in share_files(sizes, limits.video_mb, seconds, limits.video_s):
            steps = [self._steps[each] for each in file.members]
            with self._file(file.path(layout.VIDEO_PATH, limits, key)) as path:
                video.join(
                    [self._folder / layout.video_part(each, camera) for each in file.members], steps, int(rate), path
                )
            self._note(rows, file, f"videos/{key}")
            first = self._begins[file.members[0]]
            for each in file.members:
                rows[each][f"videos/{key}/from_timestamp"] = (self._begins[each] - first) / rate
                rows[each][f"videos/{key}/to_timestamp"] = (self._begins[each + 1] - first) / rate

    def _write_episodes(self, rows: list[dict[str, Any]]) -> None:
        # A row is mostly its statistics; as JSON they are not smaller than in parquet.
        sizes = [each.sizes[layout.stats_part(position)] for position, each in enumerate(self._done)]
        for file in share_files(sizes, self._writer.limits.data_mb):
            self._note(rows, file, "meta/episodes")
            whole = [
                {**rows[each], **{f"stats/{k}/{n}": v for k, s in self._statistics(each).items() for n, v in s.items()}}
                for each in file.members
            ]
            with self._file(file.path(layout.EPISODES_PATH, self._writer.limits)) as path:
                tables.write_rows(path, whole)

    def _note(self, rows: list[dict[str, Any]], file: File, what: str) -> None:
        chunk, number = file.place(self._writer.limits)
        for each in file.members:
            rows[each][f"{what}/chunk_index"], rows[each][f"{what}/file_index"] = chunk, number

    def _numbers(self, position: int) -> dict[str, Any]:
        """The columns that only the whole knows."""
        count = self._steps[position]
        task = self._tasks.index(self._done[position].written.details["task"])
        return {
            "episode_index": np.full(count, position, np.int64),
            "index": np.arange(self._begins[position], self._begins[position + 1], dtype=np.int64),
            "task_index": np.full(count, task, np.int64),
        }

    def _statistics(self, position: int) -> dict[str, Statistics]:
        text = (self._folder / layout.stats_part(position)).read_text()
        found = {key: {n: np.array(v) for n, v in stats.items()} for key, stats in json.loads(text).items()}
        numbers = self._numbers(position)
        return found | {key: statistics.of_column(values.reshape(-1, 1)) for key, values in numbers.items()}

    def _info(self) -> dict[str, Any]:
        writer, limits, rate = self._writer, self._writer.limits, int(self._writer.spec.rate_hz)
        entries = {feature.key: feature.to_info() for feature in writer.features}
        for camera in writer.cameras:
            key = features.picture_key(camera.name)
            first = self._folder / File(0, ()).path(layout.VIDEO_PATH, limits, key)
            about = video.describe(first, rate) if self._cameras else None
            entries[key] = features.picture_info(camera, about)
        return {
            "codebase_version": layout.VERSION,
            "robot_type": writer.robot,
            "total_episodes": len(self._done),
            "total_frames": self._begins[-1],
            "total_tasks": len(self._tasks),
            "chunks_size": limits.files,
            "data_files_size_in_mb": limits.data_mb,
            "video_files_size_in_mb": limits.video_mb,
            "fps": rate,
            "splits": {"train": f"0:{len(self._done)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._cameras else None,
            "features": entries | features.default_info(),
        }

    def _write_json(self, name: str, data: dict[str, Any]) -> None:
        with self._file(name) as path:
            path.write_text(json.dumps(data, indent=_JSON_INDENT) + "\n")

    def _file(self, name: str) -> AbstractContextManager[Path]:
        """A file of the dataset to write, below its folder."""
        self._made.append(name)
        return whole_file(self._folder / name)
