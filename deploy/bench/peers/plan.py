"""What the peers are asked to write, and what is known afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocol.errors import HeadraceError

# name → what it does and does not promise.
PROMISES: dict[str, str] = {
    "h5py_gzip": "a file for each episode when it has ended, raw pixels with gzip 4; nothing is synced",
    "h5py_gzip_fsync": "the same, with fsync of file and folder after each episode",
    "h5py_jpeg": "a file for each episode when it has ended, JPEG bytes as they are; nothing is synced",
    "h5py_jpeg_fsync": "the same, with fsync of file and folder after each episode",
    "h5py_swmr": "one growing file in SWMR mode, JPEG bytes, flushed after each episode; nothing is synced",
    "h5py_swmr_fsync": "the same, with fsync after each episode",
    "lerobot_images": "LeRobotDataset, raw pixels to PNG, into parquet at the end of an episode; nothing is synced",
    "lerobot_video": "LeRobotDataset, raw pixels to PNG, to AV1 video at the end of an episode; nothing is synced",
}
PEERS = tuple(PROMISES)
# Width of qpos and action: two arms, as in ACT.
COLUMN_WIDTH = 14


class PeerError(HeadraceError):
    """A peer cannot be measured; the text is the reason that is printed."""


@dataclass(frozen=True)
class PeerPlan:
    """The same for every peer: episodes of `steps` steps, each with one frame for each camera, qpos and action.

    budget_s: no episode is begun after so many seconds of writing, so that a slow peer writes fewer of them.
    limit_s: a peer that has not ended after so long is ended. environments: where the virtual environment of LeRobot
    is made and kept; beside the data if None. install_limit_s: for making it. pip: words for each `pip install`.
    """

    episodes: int = 8
    steps: int = 100
    cameras: tuple[str, ...] = ("front", "wrist")
    peers: tuple[str, ...] = PEERS
    budget_s: float = 20.0
    limit_s: float = 300.0
    environments: Path | None = None
    install_limit_s: float = 900.0
    pip: tuple[str, ...] = ()


@dataclass(frozen=True)
class PeerResult:
    """What one peer did.

    seconds: of writing alone. Frames are decoded before, where the peer stores pixels: a simulator hands out pixels.
    payload_bytes: of the JPEG frames, however they were stored. while_written, after_kill: what a reader found that
    looked in the middle of the second episode, and again after SIGKILL there. left_out: why nothing was measured.
    """

    name: str
    promises: str
    durable: bool
    episodes: int = 0
    frames: int = 0
    seconds: float = 0.0
    payload_bytes: int = 0
    disk_bytes: int = 0
    while_written: str = ""
    after_kill: str = ""
    left_out: str = ""

    @property
    def mb_per_s(self) -> float:
        """JPEG payload [MB/s], for those that store pixels too; 0 if it was left out."""
        return self.payload_bytes / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def frames_per_s(self) -> float:
        """0 if it was left out."""
        return self.frames / self.seconds if self.seconds else 0.0
