"""What became of one actor, as a file in the shared folder: Ray itself soon forgets actors that have ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from protocol.errors import ConfigurationError

FOLDER = "actors"


class Report(msgspec.Struct, frozen=True):
    """One life of one actor. generation: of the submission. life: counts from 1; every restart is another one.

    exit_status: of its program, negative: the signal that ended it. started_s, ended_s: Unix times [s].
    """

    name: str
    generation: int
    life: int
    state: Literal["RUNNING", "COMPLETED", "FAILED", "KILLED"]
    node: str
    started_s: float
    ended_s: float | None = None
    exit_status: int = 0
    reason: str = ""

    @property
    def final(self) -> bool:
        """Ray need not begin it again."""
        return self.state in ("COMPLETED", "FAILED")


def report_file(folder: Path, name: str) -> Path:
    """Of one actor in the collection's shared folder."""
    return folder / FOLDER / f"{name}.json"


def read_report(folder: Path, name: str, generation: int) -> Report | None:
    """What an actor of this generation last said of itself, or None. Raises ConfigurationError."""
    path = report_file(folder, name)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected what an actor of this collection said: {error}") from error
    return found if found.generation == generation else None


def write_report(folder: Path, report: Report) -> None:
    """Replace it as a whole. Raises OSError."""
    path = report_file(folder, report.name)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_bytes(msgspec.json.encode(report) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
