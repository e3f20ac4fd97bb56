"""The formats, and what a format is.

To add one, write a module beside this one with two frozen dataclasses and name the first in FORMATS:

    @dataclass(frozen=True)
    class Cards:
        \"\"\"One text file for each episode.\"\"\"            # shown by --help

        follows: ClassVar[bool] = True                    # it can grow: --follow is allowed

        capitals: bool = False                            # its own flags, as tyro takes them
        \"\"\"Shout.\"\"\"

        def check(self, plan: Plan) -> None:              # raises ConfigurationError; nothing was written yet
            if not plan.spec.cameras: ...

        def begin(self, plan: Plan, folder: Path) -> Writer:
            return CardWriter(folder, self.capitals)

    @dataclass(frozen=True)
    class CardWriter:                                     # pickled, and sent to a worker process with every episode
        folder: Path
        capitals: bool

        def write(self, episode: Episode) -> Written:     # in a worker process, episodes in any order
            name = f"card_{episode.position}.txt"
            with whole_file(self.folder / name) as path:  # a temporary name, renamed when the block ends
                path.write_text(...)
            return Written((name,), frames=0)

        def finish(self, done: Sequence[Done]) -> Sequence[str] | None:
            ...                                           # once all are written, by position; with --follow each time

Flags, selection, resuming, worker processes, display, manifest and --follow are done by `export.py`, for all formats.
Rules that a format keeps:

* `write` is a function of the episode and the flags: no times, no host names, nothing that depends on other episodes
  or on the order of writing. So a killed export that goes on ends with the same bytes.
* What several episodes share (one big file, statistics) is made by `begin`, which may be called again after a kill,
  or by `finish`, which may be called twice. Both run in one process only.
* Files that are not the result lie below `folder / PARTS`, which is removed when everything is finished. If `finish`
  makes the result from parts it must not move or remove them: until the manifest is written they are what is done.
  It names the files that it made: as long as they are there, the parts are not missed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from sink.export.episode import Episode
from sink.export.plan import Done, Plan, Written


class Writer(Protocol):
    """A format at work on one plan. It is pickled with every episode, so it stays small."""

    def write(self, episode: Episode) -> Written:
        """Write one episode; what it names in `files` is whole and durable. Raises HeadraceError, OSError."""
        ...

    def finish(self, done: Sequence[Done]) -> Sequence[str] | None:
        """Write what all episodes share, and name it: paths below the folder that must be there.

        done: all of the export, by position. Raises HeadraceError, OSError.
        """
        ...


class Format(Protocol):
    """A frozen dataclass: its fields are its flags, its docstring is its help."""

    follows: ClassVar[bool]

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream cannot be written so. With --follow for every batch of episodes."""
        ...

    def begin(self, plan: Plan, folder: Path) -> Writer:
        """Make what the writers need. It may have been called before, by a run that was killed."""
        ...


# name → (module:class, one line of help, extra that brings its packages). Named as text: `export act` needs no PyAV.
FORMATS: dict[str, tuple[str, str, str]] = {
    "act": ("sink.export.act:Act", "one HDF5 file for each episode, as ACT and ACT++ read them", "sink"),
    "robomimic": ("sink.export.robomimic:Robomimic", "one HDF5 file of all episodes, as robomimic reads it", "sink"),
    "video": ("sink.export.video:Video", "MP4, GIF or a PNG with all frames, for each episode and camera", "export"),
    "lerobot": (
        "sink.export.lerobot.format:LeRobot",
        "a LeRobotDataset v3.0, with video or JPEGs as they are",
        "export",
    ),
    "mcap": ("sink.export.mcap_files:Mcap", "one MCAP file for each episode, for Foxglove and others", "export"),
    "rerun": ("sink.export.rerun_files:Rerun", "one Rerun recording (.rrd) for each episode", "rerun"),
}


def find_format(name: str) -> type[Format]:
    """The class of a format that is in FORMATS."""
    module, found = FORMATS[name][0].split(":")
    made: type[Format] = getattr(importlib.import_module(module), found)
    return made
