"""Where things are in a LeRobotDataset v3.0, and which episodes share a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sink.export.plan import PARTS

VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_PATH, STATS_PATH, INFO_PATH = "meta/tasks.parquet", "meta/stats.json", "meta/info.json"
_MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The sizes that LeRobot keeps its files below, in MiB, unless an episode alone is larger; files of a folder.

    video_s: the longest that a video may be, unless an episode alone is longer. LeRobot looks for a frame by its time
    in 32 bits, and from 1024 s on these are coarser than what it tolerates (1e-4 s): of episodes that last minutes
    it then fails to find some frames in a hundred.
    """

    data_mb: float = 100
    video_mb: float = 200
    video_s: float = 1000.0
    files: int = 1000


@dataclass(frozen=True)
class File:
    """One file of several episodes. members: their positions, without gaps."""

    number: int
    members: tuple[int, ...]

    def place(self, limits: Limits) -> tuple[int, int]:
        """(chunk_index, file_index)."""
        return divmod(self.number, limits.files)

    def path(self, pattern: str, limits: Limits, key: str = "") -> str:
        """Below the dataset's folder. pattern: one of the paths above."""
        chunk, file = self.place(limits)
        return pattern.format(chunk_index=chunk, file_index=file, video_key=key)


def share_files(sizes: Sequence[int], limit_mb: float, seconds: Sequence[float] = (), longest: float = 0) -> list[File]:
    """Episodes in order into files. A file is full when the next episode would reach one of the limits.

    sizes: what each episode adds, in bytes. seconds: how long it is, if that has a limit too.
    """
    groups: list[list[int]] = [[]]
    filled = lasting = 0.0
    for position, size in enumerate(sizes):
        duration = seconds[position] if seconds else 0.0
        if groups[-1] and (filled + size >= limit_mb * _MB or (seconds and lasting + duration > longest)):
            groups.append([])
            filled = lasting = 0.0
        groups[-1].append(position)
        filled, lasting = filled + size, lasting + duration
    return [File(number, tuple(members)) for number, members in enumerate(groups)]


def part_folder(position: int) -> str:
    """Where an episode's parts are, below the export's folder."""
    return f"{PARTS}/episode_{position:06d}"


def data_part(position: int) -> str:
    """Its rows."""
    return f"{part_folder(position)}/data.parquet"


def stats_part(position: int) -> str:
    """Its statistics."""
    return f"{part_folder(position)}/stats.json"


def video_part(position: int, camera: str) -> str:
    """What one camera saw."""
    return f"{part_folder(position)}/{camera}.mp4"
