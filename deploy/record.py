"""What was started where, written beside the announcements: `headrace status` and `cancel` need nothing else."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from protocol.errors import ConfigurationError

RECORD = "submission.json"
_LOCK = "submission.lock"
Engine = Literal["slurm", "ssh"]


class SubmittedJob(msgspec.Struct, frozen=True):
    """One job, or over ssh one program. kind: of its roles. id: the engine's; the host.

    tasks: of an array, otherwise None. log: file, or its pattern.
    """

    name: str
    kind: Literal["servers", "trainers", "producers", "end"]
    id: str
    tasks: int | None
    log: str


class RecordedHost(msgspec.Struct, frozen=True):
    """A machine that was reached with ssh: where programs run there, and the collection's folder."""

    name: str
    workdir: str
    folder: str


class Record(msgspec.Struct, frozen=True):
    """One submission. generation: counts those of this folder. topology: its file. submitted_s: Unix time [s]."""

    engine: Engine
    name: str
    generation: int
    topology: str
    data: str
    submitted_s: float
    jobs: tuple[SubmittedJob, ...] = ()
    hosts: tuple[RecordedHost, ...] = ()

    def ids(self, *kinds: str) -> list[str]:
        """The jobs of these kinds; of all kinds if none is given."""
        return [job.id for job in self.jobs if not kinds or job.kind in kinds]


def read_record(folder: Path) -> Record | None:
    """What was submitted last, or None. Raises ConfigurationError."""
    path = folder / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected a record of `headrace submit`: {error}") from error


def check_engine(record: Record | None, engine: Engine, folder: Path) -> None:
    """Raise ConfigurationError if the last submission was one of another engine, which may still run."""
    if record is not None and record.engine != engine:
        raise ConfigurationError(
            f"the last submission of this collection was to {record.engine}; end it with: headrace cancel "
            f"{record.topology}; then remove {folder / RECORD}"
        )


def write_record(folder: Path, record: Record) -> None:
    """Replace the record as a whole. Raises ConfigurationError."""
    path = folder / RECORD
    draft = path.with_name(f".{RECORD}.{socket.gethostname()}.{os.getpid()}.draft")
    try:
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Whoever changes the record is alone meanwhile. Raises ConfigurationError if another one is at it."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(unreachable(folder, error)) from error
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            why = f"another `headrace submit` or `cancel` is at work in {folder}; wait for it"
            raise ConfigurationError(why) from error
        except OSError as error:
            raise ConfigurationError(unreachable(folder, error)) from error
        yield
    finally:
        os.close(fd)


def unreachable(folder: Path, error: OSError) -> str:
    """The sentence for a folder that cannot be used."""
    return (
        f"cannot use the shared folder {folder}: {error.strerror}; expected one that this machine and all nodes can "
        'write, choose it with [shared] folder = "…"'
    )
