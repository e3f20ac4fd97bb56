"""Which format a file or folder has."""

from __future__ import annotations

from pathlib import Path

from producers.replay.act_folder import ActFolder
from producers.replay.lerobot_folder import LeRobotFolder
from producers.replay.recording import Recording
from producers.replay.robomimic_file import RobomimicFile
from protocol.errors import ConfigurationError, HeadraceError

_FORMATS = (LeRobotFolder, ActFolder, RobomimicFile)


def open_recording(path: Path) -> Recording:
    """Open a recorded dataset. Raises ConfigurationError, and says in a sentence what is wrong with one."""
    if not path.exists():
        raise ConfigurationError(f"--from {path}: there is no such file or folder")
    # An export of robomimic's is a folder with one file in it.
    inside = sorted(path.glob("*.hdf5")) if path.is_dir() else []
    try:
        for kind in _FORMATS:
            if kind.is_one(path):
                return kind(path)
        if len(inside) == 1 and RobomimicFile.is_one(inside[0]):
            return RobomimicFile(inside[0])
    except (HeadraceError, OSError, KeyError) as error:
        raise ConfigurationError(f"--from {path}: {error}") from error
    raise ConfigurationError(
        f"--from {path}: expected a folder with episode_0.hdf5 … (ACT), a robomimic file with data/demo_0 …, or a "
        "LeRobot folder with meta/info.json (v3.0); found none of them"
    )
